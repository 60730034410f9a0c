import { readdirSync } from 'node:fs';

import type Docker from 'dockerode';

import { SHELL_TOOLS } from './docker-images.ts';
import { importHostTree } from './host-tree.ts';

const IMAGE = 'plugset-test-postgres';

/** As far as compose.yaml uses the real one: the variables, the volume, no password on the local socket. */
const ENTRYPOINT = String.raw`set -eu
data=/var/lib/postgresql/data/own
if [ ! -s "$data/PG_VERSION" ]; then
  printf %s "$POSTGRES_PASSWORD" >/tmp/password
  initdb -D "$data" -U "$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 \
    --encoding=UTF8 --no-locale --no-sync
  echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
  echo "create database $POSTGRES_DB;" | postgres --single -D "$data" postgres
fi
exec postgres -D "$data" -c "listen_addresses=*" -c jit=off
`;

/** Stands in for `postgres:16`, which cannot be pulled in a test: this machine's own Postgres under the same settings. */
export async function importPostgresImage(docker: Docker): Promise<string> {
  const version = Math.max(...readdirSync('/usr/lib/postgresql').map(Number));
  const home = `/usr/lib/postgresql/${version}`;
  await importHostTree(docker, {
    name: IMAGE,
    programs: [
      ...SHELL_TOOLS,
      ...['initdb', 'postgres', 'psql', 'pg_isready'].map((name) => `${home}/bin/${name}`),
      ...['dict_snowball.so', 'plpgsql.so'].map((name) => `${home}/lib/${name}`),
    ],
    paths: [`/usr/share/postgresql/${version}`, '/usr/share/zoneinfo/Etc'],
    files: {
      'entrypoint.sh': ENTRYPOINT,
      'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\npostgres:x:999:999::/var/lib/postgresql:/bin/sh\n',
    },
    open: ['var/lib/postgresql/data', 'var/run/postgresql'],
    changes: [
      `ENV PATH=${home}/bin:/usr/sbin:/usr/bin:/sbin:/bin TZ=Etc/UTC`,
      'USER 999:999',
      'ENTRYPOINT ["sh", "/entrypoint.sh"]',
    ],
  });
  return IMAGE;
}
