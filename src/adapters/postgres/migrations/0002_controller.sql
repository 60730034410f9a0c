-- What the controller needs for itself: who acts, and what it must remember.

create table plugset.leases (
  name text primary key,
  holder text not null,
  epoch bigint not null,
  n bigint not null,
  acquired_at timestamptz not null,
  expires_at timestamptz not null
);
comment on table plugset.leases is
  'Which process acts. Deleting a row is safe: the next holder starts a new epoch, which every target accepts.';
comment on column plugset.leases.name is 'What the lease is for; plugset uses one, controller.';
comment on column plugset.leases.holder is 'Host, process id and a random part of the process that holds or last held it.';
comment on column plugset.leases.epoch is 'When this row was made, Unix milliseconds; a newer epoch wins over any n on a target.';
comment on column plugset.leases.n is
  'Turn within the epoch; rises with every new holder and is at least the Unix time in seconds, so that a database restored from a backup does not hand out an old number again.';
comment on column plugset.leases.acquired_at is 'When the holder took it.';
comment on column plugset.leases.expires_at is 'By the clock of the database: from then on anybody may take it.';

create sequence plugset.document_version;
comment on sequence plugset.document_version is 'Versions of controller_state, never used twice, not even for a key that was removed and made again.';

create table plugset.controller_state (
  key text primary key,
  value jsonb not null,
  version bigint not null,
  updated_at timestamptz not null default clock_timestamp(),
  constraint key_is_1_to_4_names_joined_by_slashes
    check (key ~ '^[a-z0-9][a-z0-9._-]{0,127}(/[a-z0-9][a-z0-9._-]{0,127}){0,3}$')
);
comment on table plugset.controller_state is 'Small documents that plugset must remember across restarts. Written by plugset only.';
comment on column plugset.controller_state.key is 'What the document is about.';
comment on column plugset.controller_state.value is 'The document; at most 256 KiB.';
comment on column plugset.controller_state.version is 'Changes with every write; a writer names the version that it read.';
comment on column plugset.controller_state.updated_at is 'When it was written.';
