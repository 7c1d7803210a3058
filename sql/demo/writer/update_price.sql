-- Up or down by a few per cent, never to nothing. Rights: UPDATE on products. $1 product, $2 change in per cent.
update products
set price = greatest(0.5, round(price * (100 + $2::integer) / 100, 2)), updated_at = now()
where product_id = $1
