-- The next step of an order on its way. Rights: SELECT and UPDATE on orders. $1 which one, from 0 for the latest.
update orders
set status = case status when 'placed' then 'paid' when 'paid' then 'shipped' else 'delivered' end::order_status,
    shipped_at = case when status = 'paid' then now() else shipped_at end
where order_id = (
    select order_id from orders
    where status in ('placed', 'paid', 'shipped')
    order by placed_at desc
    offset $1::bigint limit 1
)
