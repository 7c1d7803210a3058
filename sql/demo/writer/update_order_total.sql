-- Rights: UPDATE on orders, SELECT on order_items. $1 order.
update orders
set total = (select coalesce(sum(quantity * unit_price), 0) from order_items where order_id = $1)
where order_id = $1
