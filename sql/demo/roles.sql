-- The roles of the demo and its database. Rights: a superuser, in any other database.
-- `shop` owns the tables, `millpond` follows them (it may publish them as a member of their owner),
-- `analyst` may read all but the customers and their sessions.
create role shop login;
create role millpond login replication in role shop;
create role analyst login;
