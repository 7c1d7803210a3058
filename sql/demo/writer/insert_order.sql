-- Rights: INSERT on orders. $1 customer.
insert into orders (customer_id) values ($1) returning order_id
