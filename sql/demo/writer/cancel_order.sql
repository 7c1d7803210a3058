-- Rights: UPDATE on orders. $1 order.
update orders set status = 'cancelled' where order_id = $1 and status in ('placed', 'paid')
