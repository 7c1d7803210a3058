//! Identifiers, each its own type so that they cannot be exchanged.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// `pg_class.oid` of a table. Partitions are known by the OID of their root.
    TableOid(u32)
}
id! {
    /// `pg_type.oid`.
    TypeOid(u32)
}
id! {
    /// `pg_authid.oid`.
    RoleOid(u32)
}
id! {
    /// `pg_attribute.attnum`; from 1 for a user's columns.
    AttNum(i16)
}
id! {
    /// A transaction id as the stream names it (32 bits).
    Xid(u32)
}
id! {
    /// The number of a publish in our own store: every commit batch has the next one. It orders
    /// what readers see; the LSN that belongs to it is kept beside it.
    CommitVersion(u64)
}
