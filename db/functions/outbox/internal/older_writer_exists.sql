-- Returns whether a transaction of this database with a lower id than p_xid may still commit. Called by fetch_events.
-- A snapshot covers the transactions of all databases on the server, but a long one in another database must not
-- delay events here. So when there is one, pg_locks shows its database: each transaction holds a lock on its own id,
-- a prepared one without a backend. Ids are compared as the server does, within half of their cycle of 2^32.

create function tasker_core_v1.older_writer_exists(p_xid bigint) returns boolean
language sql volatile as $$
  select pg_snapshot_xmin(pg_current_snapshot())::text::bigint < p_xid
    and exists (
      select
      from pg_locks l
      left join pg_stat_activity a on a.pid = l.pid
      left join pg_prepared_xacts p on p.transaction = l.transactionid
      where l.locktype = 'transactionid'
        and l.mode = 'ExclusiveLock'
        and l.granted
        and coalesce(a.datname, p.database, current_database()) = current_database()
        and (p_xid - l.transactionid::text::bigint) & 4294967295 between 1 and 2147483647);
$$;
