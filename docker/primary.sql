-- The example's database: run once, by the superuser, when the container's data directory is made.

create table products (
    id integer primary key generated always as identity,
    name text not null,
    price numeric(10, 2) not null,
    stock integer not null
);
create table orders (
    id bigint primary key generated always as identity,
    customer text not null,
    placed_at timestamptz not null default now()
);
create index on orders (customer);
create table order_lines (
    order_id bigint references orders,
    product_id integer references products,
    quantity integer not null,
    primary key (order_id, product_id)
);

insert into products (name, price, stock)
    select 'product ' || n, n * 1.25, n % 40 from generate_series(1, 1000) n;
insert into orders (customer)
    select 'customer ' || n % 500 from generate_series(1, 5000) n;
insert into order_lines
    select n, n % 1000 + 1, n % 5 + 1 from generate_series(1, 5000) n;

-- What Millpond logs in as: no superuser, no owner.
create role millpond login replication password 'millpond';
grant select on products, orders, order_lines to millpond;
create publication millpond for table products, orders, order_lines with (publish_via_partition_root = true);

-- What the application logs in as.
create role app login password 'app';
grant select, insert, update, delete on products, orders, order_lines to app;
