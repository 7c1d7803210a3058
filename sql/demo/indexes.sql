-- Keys, indexes and statistics of the shop, after its rows: faster in this order.
-- Rights: those of the tables' owner.
alter table customers add primary key (customer_id);
alter table products add primary key (product_id);
alter table orders add primary key (order_id);
alter table order_items add primary key (order_id, line_no);
alter table sessions add primary key (session_id);

create unique index customers_email_key on customers (email);
create index customers_country_city_idx on customers (country, city);
create unique index products_sku_key on products (sku);
create index products_category_price_idx on products (category, price);
create index orders_customer_id_placed_at_idx on orders (customer_id, placed_at);
create index orders_status_idx on orders (status);
create index orders_placed_at_idx on orders (placed_at);
create index order_items_product_id_idx on order_items (product_id);
create index sessions_customer_id_idx on sessions (customer_id);
create index sessions_last_seen_at_idx on sessions (last_seen_at);

alter table products add check (price > 0);
alter table order_items add check (quantity > 0);
alter table orders add foreign key (customer_id) references customers;
alter table order_items add foreign key (order_id) references orders on delete cascade;
alter table order_items add foreign key (product_id) references products;
alter table sessions add foreign key (customer_id) references customers on delete cascade;

analyze;
