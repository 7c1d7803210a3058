-- The shop's rows: the same ones each time, but for the dates, which end now.
-- Rights: INSERT and UPDATE on the shop's tables.
select setseed(0.42);

insert into customers (customer_id, email, full_name, country, city, newsletter, credit, tags, created_at)
select
    i,
    lower(first_name || '.' || last_name) || i || '@' || (array['example.com', 'example.org', 'example.net'])[1 + i % 3],
    first_name || ' ' || last_name,
    (array['DE', 'FR', 'GB', 'NL', 'ES', 'SE', 'PL', 'US'])[place],
    (array['Berlin', 'Lyon', 'Leeds', 'Utrecht', 'Sevilla', 'Malmö', 'Kraków', 'Portland'])[place],
    random() < 0.4,
    case when random() < 0.2 then round((random() * 200)::numeric, 2) else 0 end,
    case
        when i % 50 = 0 then array['vip', 'early adopter']
        when i % 10 = 0 then array['wholesale']
        when i % 7 = 0 then array['newsletter', 'student']
        else '{}'
    end,
    now() - random() * interval '3 years'
from (
    select
        i,
        (array['Ada', 'Grace', 'Alan', 'Edsger', 'Barbara', 'Edgar', 'Radia', 'Ken', 'Margaret', 'Dennis', 'Frances', 'Leslie',
            'Hedy', 'Niklaus', 'Karen', 'Tony', 'Sophie', 'Linus', 'Anita', 'Guido', 'Jeanne', 'René', 'Zoë', 'Søren'])[1 + floor(random() * 24)::int] as first_name,
        (array['Lovelace', 'Hopper', 'Turing', 'Dijkstra', 'Liskov', 'Codd', 'Perlman', 'Thompson', 'Hamilton', 'Ritchie', 'Allen', 'Lamport',
            'Lamarr', 'Wirth', 'Jones', 'Hoare', 'Wilson', 'Torvalds', 'Borg', 'Stone', 'Müller', 'Jansen', 'Nowak', 'Larsen'])[1 + floor(random() * 24)::int] as last_name,
        1 + floor(random() * 8)::int as place
    from generate_series(1, 20000) i
) people;

insert into products (product_id, sku, name, category, price, weight_kg, stock, active, tags, updated_at)
select
    i,
    'SKU-' || lpad(i::text, 6, '0'),
    (array['Oak', 'Steel', 'Linen', 'Copper', 'Walnut', 'Canvas', 'Ceramic', 'Wool', 'Bamboo', 'Glass'])[1 + floor(random() * 10)::int]
        || ' ' || thing || ' No. ' || i,
    category,
    round((3 + random() * random() * 400)::numeric, 2),
    case when random() < 0.9 then (0.05 + random() * 12)::real end,
    floor(random() * 500)::int,
    random() < 0.95,
    case when random() < 0.15 then array['sale', category] when random() < 0.3 then array['new', category] else array[category] end,
    now() - random() * interval '1 year'
from (
    select
        i,
        (array['kitchen', 'office', 'garden', 'bath', 'kitchen', 'office', 'garden', 'bath'])[kind] as category,
        (array['Bowl', 'Lamp', 'Bench', 'Towel', 'Kettle', 'Chair', 'Planter', 'Mirror'])[kind] as thing
    from (select i, 1 + floor(random() * 8)::int as kind from generate_series(1, 5000) i) kinds
) things;

insert into orders (order_id, customer_id, status, placed_at, shipped_at, note)
select
    i,
    -- Some customers order much more often than others.
    1 + floor(random() * random() * 20000)::int,
    status,
    placed_at,
    case when status in ('shipped', 'delivered', 'refunded') then placed_at + interval '1 hour' + random() * interval '3 days' end,
    case when random() < 0.05 then (array['Please ring twice', 'Gift wrap', 'Leave at the neighbour''s', 'Call before delivery'])[1 + floor(random() * 4)::int] end
from (
    select
        i,
        (array['delivered', 'delivered', 'delivered', 'delivered', 'delivered', 'delivered', 'shipped', 'paid', 'placed', 'cancelled', 'refunded']::order_status[])
            [1 + floor(random() * 11)::int] as status,
        now() - (60000 - i) * interval '17 minutes' - random() * interval '17 minutes' as placed_at
    from generate_series(1, 60000) i
) placed;

insert into order_items (order_id, line_no, product_id, quantity, unit_price)
select chosen.order_id, chosen.line_no, chosen.product_id, chosen.quantity, p.price
from (
    select
        o.order_id,
        line_no::smallint,
        1 + floor(random() * 5000)::int as product_id,
        1 + floor(random() * random() * 6)::int as quantity
    -- One to five lines, three on average.
    from (select order_id, 1 + floor(random() * 5)::int as lines from orders) o,
        generate_series(1, o.lines) line_no
) chosen
join products p using (product_id);

update orders o
set total = i.total
from (select order_id, sum(quantity * unit_price) as total from order_items group by order_id) i
where i.order_id = o.order_id;

insert into sessions (session_id, customer_id, data, started_at, last_seen_at)
select
    md5('session ' || i)::uuid,
    1 + floor(random() * 20000)::int,
    jsonb_build_object(
        'device', (array['phone', 'laptop', 'tablet'])[1 + i % 3],
        'language', (array['de', 'fr', 'en', 'nl', 'es', 'sv', 'pl'])[1 + i % 7],
        'views', floor(random() * 40)::int,
        'cart', jsonb_build_array(1 + floor(random() * 5000)::int, 1 + floor(random() * 5000)::int)
    ),
    last_seen_at - random() * interval '2 hours',
    last_seen_at
from (select i, now() - random() * interval '2 days' as last_seen_at from generate_series(1, 30000) i) seen;

insert into audit_log (message)
select 'import of file ' || i from generate_series(1, 1000) i;

-- The next orders and customers come after those that were given a number here.
select setval(pg_get_serial_sequence('customers', 'customer_id'), (select max(customer_id) from customers));
select setval(pg_get_serial_sequence('products', 'product_id'), (select max(product_id) from products));
select setval(pg_get_serial_sequence('orders', 'order_id'), (select max(order_id) from orders));
