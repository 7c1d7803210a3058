-- A customer comes (back). Rights: INSERT, SELECT and UPDATE on sessions. $1 number of the session, $2 customer, $3 product seen.
insert into sessions (session_id, customer_id, data)
values (md5('session ' || $1::integer)::uuid, $2, jsonb_build_object('views', 1, 'last_product', $3::integer))
on conflict (session_id) do update
set last_seen_at = now(),
    data = sessions.data || jsonb_build_object(
        'views', coalesce((sessions.data ->> 'views')::integer, 0) + 1, 'last_product', $3::integer)
