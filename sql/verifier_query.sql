-- What sql/verifier.sql knows of a role ($1) that wants to log in to a database ($2). Runs on Millpond's
-- own connection; needs EXECUTE on the function.
select verifier, refusal, limited, definitions, flushed::text
from millpond.verifier($1, $2)
