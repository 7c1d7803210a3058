-- The rows that every client begins with. Needs the role app.
set lock_timeout = '20s';
-- What a client that failed has left.
set client_min_messages = warning;
drop schema if exists django, bench, attic cascade;
drop table if exists changing, office.made, office.note, office.mades;
drop type if exists office.level, office.enum_mades_level;
truncate customer, product, purchase, every_type, office.ledger, office.measure restart identity;
alter sequence office.tickets restart;
insert into customer (name, email, born, balance, active, tags, profile, created)
select 'customer ' || n, case when n % 10 <> 0 then 'c' || n || '@example.org' end,
       date '1950-01-01' + n * 37, n / 3.0, n % 7 <> 0,
       case when n % 4 = 0 then array['vip', 'a "quoted" one', null] else '{}' end,
       case when n % 3 = 0 then jsonb_build_object('level', n % 5, 'nested', jsonb_build_array(n, null, 'x')) end,
       timestamptz '2024-01-01 00:00:00+00' + n * interval '7 hours 13 minutes'
from generate_series(1, 300) n;
insert into product
select 'sku-' || to_char(n, 'FM000'), 'Product Ünï ' || n, n * 1.25, case when n % 5 <> 0 then n / 7.0 end,
       case when n % 2 = 0 then decode(lpad(to_hex(n), 8, '0'), 'hex') end, (enum_range(null::kind))[n % 3 + 1]
from generate_series(1, 60) n;
insert into purchase
select n, n % 300 + 1, 'sku-' || to_char(n % 60 + 1, 'FM000'), n % 9 + 1,
       timestamp '2024-02-01' + n * interval '95 minutes', case when n % 6 = 0 then E'line one\nline\ttwo\\' end
from generate_series(1, 1200) n;
insert into every_type values
    (1, 1, 2, 1.5, 2.25, 12345.678901, 123.45, 'text', 'varchar', 'abc', 'name', 'x', '\x00ff10', true,
     '2024-02-29', '12:34:56.789', '12:34:56.789', '12:34:56+02', '2024-02-29 12:34:56.789012', '2024-02-29 12:34:56.789012+00',
     '1 year 2 mons 3 days 04:05:06.7', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a": [1, 2.50, null]}', '{"b": {"c": "d"}}',
     '192.168.1.5/24', '10.0.0.0/8', '08:00:2b:01:02:03', '101', '1010', '{1,NULL,3}', '{a,"b c",NULL}', '[1,10)',
     '(1.5,2.5)', '(3,4),(1,2)', '1234.56', 4711, 'book', 'a:1 fat:2 cat:3'),
    (2, -32768, -9223372036854775808, '-infinity', 'nan', 'nan', -999.99, '', '', '', '', '', '', false,
     'infinity', '00:00:00', '24:00:00', '00:00:00-15:59', '-infinity', 'infinity',
     '-1 day', '00000000-0000-0000-0000-000000000000', 'null', 'null', '::1', '::/0', 'ff:ff:ff:ff:ff:ff', '000', '', '{}',
     '{}', 'empty', '(0,0)', '(0,0),(0,0)', '-0.01', 0, 'toy', ''),
    (4, 0, 0, '1e-30', 1e300, 0.00001, 0.01, E'q''uo"te \\ \u00fc \U0001F600', 'x', 'abcde', 'n', 'z', '\xdeadbeef', true,
     '0001-01-01', '23:59:59.999999', '01:02:03.456', '23:59:59.999999+14', '1999-12-31 23:59:59', '0044-03-15 12:00:00+00 BC',
     '00:00:00.000001', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '[]', '{"a": 1.0, "b": 1e5}', '10.1.2.3', '2001:db8::/32',
     '00:00:00:00:00:01', '111', '11111111', '{{1,2},{3,4}}', '{{a},{b}}', '(,5]', '(1e10,-1e-10)', '(1,1),(0,0)',
     '0', 4294967295, 'tool', '''x y'':1A,5B');
insert into every_type (id) values (3);
insert into office.ledger (what, amount, customer_id)
select 'entry ' || n, n * 2.5, n from generate_series(1, 40) n;
insert into office.measure select date '2024-12-01' + n, n from generate_series(1, 60) n;
refresh materialized view office.totals;
