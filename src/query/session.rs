//! What an answer depends on besides its SQL.

use crate::types::{PgType, Setting};

/// The session's side of an answer. Kept current from the session's own connection to the primary,
/// so that a default of the role or the database is seen like a SET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// `current_user`: the effective role.
    pub role: String,
    /// `current_schemas(true)`.
    pub search_path: Vec<String>,
    pub time_zone: String,
    pub date_style: String,
    pub interval_style: String,
    pub extra_float_digits: i32,
    pub bytea_output: String,
    pub lc_monetary: String,
    pub client_encoding: String,
    /// `default_transaction_isolation`.
    pub default_isolation: String,
    pub standard_conforming_strings: bool,
    pub transform_null_equals: bool,
    pub route: RouteSetting,
}

/// `millpond.route`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteSetting {
    /// From memory where that is exact.
    #[default]
    Auto,
    /// Always from the primary.
    Primary,
    /// From memory, or an error: the planner treats it as `Auto`, the session refuses to forward.
    Local,
}

impl SessionFacts {
    /// Whether timestamps with time zone are read and written at offset zero all the year round.
    pub(crate) fn is_utc(&self) -> bool {
        matches!(
            self.time_zone.as_str(),
            "UTC" | "Etc/UTC" | "GMT" | "Etc/GMT" | "UCT" | "Etc/UCT" | "Zulu" | "Etc/Zulu"
        )
    }

    /// Whether the text form of this type is, in this session, the one that we write.
    pub(crate) fn writes_text_as_we_do(&self, ty: &PgType, lc_monetary: &str) -> bool {
        let mut exact = true;
        ty.text_settings(&mut |setting| {
            exact &= match setting {
                Setting::TimeZone => self.is_utc(),
                Setting::DateStyle => self.date_style.starts_with("ISO"),
                Setting::IntervalStyle => self.interval_style == "postgres",
                Setting::ExtraFloatDigits => self.extra_float_digits >= 1,
                Setting::ByteaOutput => self.bytea_output == "hex",
                Setting::LcMonetary => {
                    self.lc_monetary == lc_monetary
                        && matches!(self.lc_monetary.as_str(), "C" | "POSIX" | "C.UTF-8" | "C.utf8")
                }
            };
        });
        exact
    }
}
