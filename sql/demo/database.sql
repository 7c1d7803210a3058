-- Rights: CREATEDB and membership in `shop`. On its own: not allowed inside a transaction.
create database shop owner shop;
