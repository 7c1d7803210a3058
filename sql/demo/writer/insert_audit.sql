-- Rights: INSERT on audit_log. $1 message.
insert into audit_log (message) values ($1)
