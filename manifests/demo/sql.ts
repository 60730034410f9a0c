// `.plugset-dev/sql "select …"`: what psql does, where there is none.
import pg from 'pg';

const client = new pg.Client({ connectionString: process.env['DATABASE_URL'] });
try {
  await client.connect();
  const { command, rowCount, rows } = await client.query(process.argv.slice(2).join(' '));
  if (rows.length > 0) console.table(rows);
  else console.log(`${command} ${rowCount ?? ''}`.trim());
} catch (error) {
  console.error(error instanceof Error ? error.message || 'no Postgres answers; does npm start run?' : error);
  process.exitCode = 1;
} finally {
  await client.end().catch(() => undefined);
}
