//! Values as MySQL sends them for prepared statements, into JSON without loss.

use sqlx::mysql::{MySql, MySqlRow};
use sqlx::{Decode, Row, Type, TypeInfo, ValueRef};

use crate::rows::Cell;

/// A value on its way into an answer.
pub(super) enum Made<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Bytes(&'a [u8]),
    Text(&'a [u8]),
    Written(String, Option<&'static str>),
}

impl Made<'_> {
    /// Returns the value as people read it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Integer(integer) => integer.to_string(),
            Self::Real(real) => real.to_string(),
            Self::Bytes(bytes) | Self::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Written(text, _) => text.clone(),
        }
    }

    pub(super) fn cell(&self) -> Cell<'_> {
        match self {
            Self::Null => Cell::Null,
            Self::Integer(integer) => Cell::Integer(*integer),
            Self::Real(real) => Cell::Real(*real),
            Self::Bytes(bytes) => Cell::Blob(bytes),
            Self::Text(text) => Cell::Text(text),
            Self::Written(text, encoding) => Cell::Encoded(text, *encoding),
        }
    }
}

/// Returns the value of one column.
pub(super) fn made(row: &MySqlRow, index: usize) -> Result<Made<'_>, sqlx::Error> {
    let value = row.try_get_raw(index)?;
    let known = value.type_info().name().to_owned();
    // Text that is compared by its bytes has the flag of bytes, but a collation of its own.
    let is_text = <str as Type<MySql>>::compatible(&value.type_info());
    // Not every name says so: an unsigned TINYINT(1) is called BOOLEAN.
    let unsigned = known.ends_with("UNSIGNED") || <u64 as Type<MySql>>::compatible(&value.type_info());
    // A date of zeros is NULL to the driver, and a value here; only what has no bytes at all is NULL.
    let Ok(bytes) = <&[u8] as Decode<MySql>>::decode(value) else { return Ok(Made::Null) };
    let of_bytes = ["BINARY", "VARBINARY", "BLOB", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB"].contains(&known.as_str());
    Ok(if is_text && of_bytes { Made::Text(bytes) } else { read(&known, unsigned, bytes) })
}

fn read<'a>(known: &str, unsigned: bool, bytes: &'a [u8]) -> Made<'a> {
    let written = |text: String| Made::Written(text, None);
    match known.trim_end_matches(" UNSIGNED") {
        "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" | "YEAR" => {
            integer(bytes, unsigned || known == "YEAR")
        }
        "FLOAT" => match bytes.try_into().map(f32::from_le_bytes) {
            // Through its shortest text, so that 0.1 stays 0.1.
            Ok(real) => real.to_string().parse().map_or(Made::Bytes(bytes), Made::Real),
            Err(_) => Made::Bytes(bytes),
        },
        "DOUBLE" => bytes.try_into().map(f64::from_le_bytes).map_or(Made::Bytes(bytes), Made::Real),
        "DECIMAL" => Made::Written(String::from_utf8_lossy(bytes).into_owned(), Some("decimal_as_text")),
        "JSON" => Made::Written(String::from_utf8_lossy(bytes).into_owned(), Some("json_as_text")),
        "DATE" => date(bytes, false).map_or(Made::Bytes(bytes), written),
        "DATETIME" | "TIMESTAMP" => date(bytes, true).map_or(Made::Bytes(bytes), written),
        "TIME" => time(bytes).map_or(Made::Bytes(bytes), written),
        "BINARY" | "VARBINARY" | "BLOB" | "TINYBLOB" | "MEDIUMBLOB" | "LONGBLOB" | "BIT" | "GEOMETRY" => {
            Made::Bytes(bytes)
        }
        _ => Made::Text(bytes),
    }
}

fn integer(bytes: &[u8], unsigned: bool) -> Made<'_> {
    let mut wide = [0; 8];
    let Some(low) = wide.get_mut(..bytes.len()) else { return Made::Bytes(bytes) };
    low.copy_from_slice(bytes);
    let negative = !unsigned && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    if negative {
        wide.iter_mut().skip(bytes.len()).for_each(|byte| *byte = 0xff);
        return Made::Integer(i64::from_le_bytes(wide));
    }
    let value = u64::from_le_bytes(wide);
    match i64::try_from(value) {
        Ok(value) if !unsigned || bytes.len() < 8 || value >= 0 => Made::Integer(value),
        _ => Made::Written(value.to_string(), Some("integer_as_text")),
    }
}

/// A length and that many bytes: year, month, day, hour, minute, second, microseconds, as far as they are not zero.
fn date(bytes: &[u8], with_time: bool) -> Option<String> {
    let (length, parts) = bytes.split_first()?;
    let parts = parts.get(..usize::from(*length))?;
    let part = |at: usize| parts.get(at).copied().unwrap_or(0);
    let year = u16::from_le_bytes([part(0), part(1)]);
    let date = format!("{year:04}-{:02}-{:02}", part(2), part(3));
    if !with_time {
        return Some(date);
    }
    let microseconds = u32::from_le_bytes([part(7), part(8), part(9), part(10)]);
    let fraction = if parts.len() > 7 { format!(".{microseconds:06}") } else { String::new() };
    Some(format!("{date} {:02}:{:02}:{:02}{fraction}", part(4), part(5), part(6)))
}

/// A length and that many bytes: sign, days, hours, minutes, seconds, microseconds.
fn time(bytes: &[u8]) -> Option<String> {
    let (length, parts) = bytes.split_first()?;
    let parts = parts.get(..usize::from(*length))?;
    let part = |at: usize| parts.get(at).copied().unwrap_or(0);
    let sign = if part(0) == 1 { "-" } else { "" };
    let hours = u64::from(u32::from_le_bytes([part(1), part(2), part(3), part(4)])) * 24 + u64::from(part(5));
    let microseconds = u32::from_le_bytes([part(8), part(9), part(10), part(11)]);
    let fraction = if parts.len() > 8 { format!(".{microseconds:06}") } else { String::new() };
    Some(format!("{sign}{hours:02}:{:02}:{:02}{fraction}", part(6), part(7)))
}
