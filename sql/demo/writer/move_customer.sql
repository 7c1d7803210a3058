-- Rights: UPDATE on customers. $1 customer, $2 country, $3 city.
update customers set country = $2, city = $3 where customer_id = $1
