-- The two that were seen longest ago. Rights: DELETE and SELECT on sessions.
delete from sessions
where session_id in (select session_id from sessions order by last_seen_at limit 2)
