-- For the administrator of the primary: everything that Millpond needs there, and nothing more.
-- Rights: a superuser, or CREATEROLE and REPLICATION, CREATE on the database, and ownership of the
-- tables.
--
-- Replace <role>, <password>, <publication> (replication.publication in the configuration) and
-- <tables> (a list with commas), and run it in the database that is to be cached:
--
--   psql -d app -f setup.sql

-- The server must have wal_level = logical (a restart) and a free replication slot and WAL sender:
--   alter system set wal_level = 'logical';

-- REPLICATION lets the role stream every published table and create slots: treat its password as
-- that of an administrator.
create role <role> login replication password '<password>';

-- The first copy reads the tables. Repeat the grants for every schema that holds some of them.
grant usage on schema public to <role>;
grant select on table <tables> to <role>;
-- Only where a table has row security: the copy must see every row. Such tables are answered by the
-- primary all the same.
--   alter role <role> bypassrls;

-- The stream carries exactly these tables. Each needs a primary key that is not deferrable, or
-- REPLICA IDENTITY FULL: without one the application's own UPDATE and DELETE would fail.
-- A table added to the configuration later is added here too:
--   alter publication <publication> add table <table>;
-- Columns that must never leave the primary are left out by naming the others (15):
--   ... for table users (id, name)
create publication <publication> for table <tables>
  with (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);
