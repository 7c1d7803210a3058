-- Takes from the stock, and orders more where there is too little. Rights: UPDATE on products. $1 product, $2 quantity.
update products
set stock = case when stock >= $2::integer then stock - $2::integer else stock + 500 - $2::integer end
where product_id = $1
