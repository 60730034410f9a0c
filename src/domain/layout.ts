/*
 * Where things lie below the config directory of a runtime. The scripts on the target (`apply.sh`, `look.sh`) say the
 * same by themselves: they are constant texts.
 */

/** Every directory in it is a plugin, whoever put it there. */
export const PLUGINS_DIRECTORY = 'plugins';

/** What plugset itself writes. */
export const STATE_DIRECTORY = '.plugset';

/** The two lists of each plugin that plugset installed. */
export const FILES_DIRECTORY = `${STATE_DIRECTORY}/files`;
export const EXECUTABLES_DIRECTORY = `${STATE_DIRECTORY}/executables`;

/** One receipt for each plugin that plugset installed. */
export const RECEIPTS_DIRECTORY = `${STATE_DIRECTORY}/receipts`;
