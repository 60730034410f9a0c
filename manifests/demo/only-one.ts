// Before `npm start` builds: the build removes dist/, out of which a demo that runs lives.
import { Place } from './place.ts';
import { messageOf } from './undo.ts';

try {
  await Place.ensureFree();
} catch (error) {
  console.error(messageOf(error));
  process.exitCode = 1;
}
