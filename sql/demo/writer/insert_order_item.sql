-- At today's price. Rights: INSERT on order_items, SELECT on products. $1 order, $2 line, $3 product, $4 quantity.
insert into order_items (order_id, line_no, product_id, quantity, unit_price)
select $1::bigint, $2::smallint, product_id, $4::integer, price from products where product_id = $3
