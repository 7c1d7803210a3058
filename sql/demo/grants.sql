-- Rights: those of the tables' owner.
grant select on products, orders, order_items, order_totals to analyst;
