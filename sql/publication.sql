-- A publication ($1: name). Rights: any login.
select p.oid,
       p.oid || '.' || p.xmin::text as stamp,
       pg_catalog.pg_has_role(p.pubowner, 'usage') as owned,
       p.puballtables as all_tables,
       p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate as all_changes,
       p.pubviaroot as via_root,
       -- A boolean in betas of 18, then 'n' or 's'.
       coalesce(to_jsonb(p) ->> 'pubgencols', 'n') not in ('n', 'false') as generated
  from pg_catalog.pg_publication p
 where p.pubname = $1
