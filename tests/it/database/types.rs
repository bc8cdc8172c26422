//! Every type of the three engines, there and back: what the server answers is what the engine itself writes, and is taken
//! again as a parameter; or it is refused by a code, with a way around.
//!
//! Values are generated from a seed (`TOLLGATE_TYPES_SEED`), `TOLLGATE_TYPES_CASES` times a handful for each type; what fails is
//! shrunk to the smallest value that does.

mod mysql;
mod postgres;
mod sqlite;

use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

/// How many values of a type are looked at in one query.
const VALUES_MAX: usize = 16;

/// How many values of each query are also given back as parameters, which takes a call for each.
const GIVEN_BACK: usize = 4;

/// Largest integer that is a number in JSON.
const EXACT_MAX: i128 = (1 << 53) - 1;

/// How a value is written in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Integer,
    Real,
    /// Of 32 bits.
    Single,
    Boolean,
    /// A string with the engine's text.
    Text,
    /// `base64`, where the engine's text is hexadecimal.
    Bytes,
    /// As [`Self::Text`], with as many zeros at the end of a second's fraction as there may be.
    Time,
    /// An array of these, whose texts the engine is asked for.
    Array(&'static Form),
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs `check` on handfuls of `values`, `None` for NULL, and returns the smallest that is wrong.
fn smallest_wrong(
    values: BoxedStrategy<String>,
    check: &impl AsyncFn(&[Option<String>]) -> Result<(), String>,
) -> Option<String> {
    let config = Config {
        cases: u32::try_from(number("TOLLGATE_TYPES_CASES", 2)).unwrap(),
        max_shrink_iters: 300,
        failure_persistence: None,
        ..Config::default()
    };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number("TOLLGATE_TYPES_SEED", 0x7011_6a7e).to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let handfuls = prop::collection::vec(prop::option::weighted(0.9, values), 1..=VALUES_MAX);
    let result = runner.run(&handfuls, |values| {
        let checked = block_in_place(|| Handle::current().block_on(check(&values)));
        checked.map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => None,
        Err(TestError::Fail(reason, values)) => Some(format!("{reason} with {values:?}")),
        Err(TestError::Abort(reason)) => Some(reason.to_string()),
    }
}

/// Says what is wrong when `answered` is not the value that the engine writes as `text`.
fn compared(form: Form, answered: &Value, text: Option<&str>) -> Result<(), String> {
    let same = match (text, answered) {
        (None, answered) => answered.is_null(),
        (Some(text), Value::Number(number)) => match form {
            Form::Integer => {
                let integer: Option<i128> = text.parse().ok();
                integer.is_some_and(|integer| {
                    integer.abs() <= EXACT_MAX && number.as_i64().map(i128::from) == Some(integer)
                })
            }
            Form::Real => text.parse().ok().map(f64::to_bits) == number.as_f64().map(f64::to_bits),
            Form::Single => {
                let shown: Option<f32> = number.to_string().parse().ok();
                text.parse().ok().map(f32::to_bits) == shown.map(f32::to_bits)
            }
            _ => false,
        },
        (Some(text), Value::String(shown)) => match form {
            Form::Integer => text.parse().is_ok_and(|integer: i128| integer.abs() > EXACT_MAX) && shown == text,
            Form::Real | Form::Single => ["NaN", "Infinity", "-Infinity"].contains(&text) && shown == text,
            Form::Text => shown == text,
            Form::Time => whole_fraction(shown) == whole_fraction(text),
            // Bounds of its own, which an array of JSON has not.
            Form::Array(_) => text.starts_with('[') && shown == text,
            Form::Boolean | Form::Bytes => false,
        },
        (Some(text), Value::Bool(value)) => form == Form::Boolean && text.starts_with(if *value { 't' } else { 'f' }),
        (Some(text), Value::Object(object)) => {
            let bytes = object.get("base64").and_then(Value::as_str).map(unbase64);
            form == Form::Bytes && object.len() == 1 && bytes.as_deref() == Some(text.trim_start_matches("\\x"))
        }
        (Some(_), Value::Array(_) | Value::Null) => false,
    };
    if same { Ok(()) } else { Err(format!("{answered} where the engine has {text:?}")) }
}

/// Says what is wrong when the elements of `answered` are not those that the engine writes.
fn compared_elements(form: Form, answered: &Value, texts: &Value) -> Result<(), String> {
    match (answered, texts) {
        (Value::Array(answered), Value::Array(texts)) if answered.len() == texts.len() => {
            answered.iter().zip(texts).try_for_each(|(answered, text)| compared_elements(form, answered, text))
        }
        (answered, Value::String(text)) => compared(form, answered, Some(text)),
        (Value::Null, Value::Null) => Ok(()),
        _ => Err(format!("{answered} where the engine has {texts}")),
    }
}

/// Returns a time without the zeros at the end of its fraction.
fn whole_fraction(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// Returns the bytes of `text` in hexadecimal.
fn unbase64(text: &str) -> String {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<bool> = text
        .trim_end_matches('=')
        .chars()
        .flat_map(|digit| {
            let value = DIGITS.find(digit).expect("a digit of base64");
            (0..6).rev().map(move |bit| value >> bit & 1 == 1)
        })
        .collect();
    bits.chunks_exact(8)
        .map(|byte| format!("{:02x}", byte.iter().fold(0_u8, |value, bit| value << 1 | u8::from(*bit))))
        .collect()
}

/// Text with what quoting is about, without NUL.
fn text() -> BoxedStrategy<String> {
    prop_oneof![
        4 => "[ -~éß漢🦀\t\n\r\u{1}\u{7f}]{0,12}",
        1 => Just("NULL".to_owned()),
        1 => "[ ,;{}\"'\\\\()]{0,6}",
    ]
    .boxed()
}

/// Floats of every size, to the last bit.
fn real(special: bool) -> BoxedStrategy<String> {
    prop_oneof![any::<u64>().prop_map(f64::from_bits), any::<f64>()]
        .prop_map(move |real| match real {
            real if real.is_finite() => format!("{real:?}"),
            _ if !special => "0.1".to_owned(),
            real if real.is_nan() => "NaN".to_owned(),
            real if real > 0.0 => "Infinity".to_owned(),
            _ => "-Infinity".to_owned(),
        })
        .boxed()
}

/// The same of 32 bits.
fn single(special: bool) -> BoxedStrategy<String> {
    any::<u32>()
        .prop_map(f32::from_bits)
        .prop_map(move |real| match real {
            real if real.is_finite() => format!("{real:?}"),
            _ if !special => "0.1".to_owned(),
            real if real.is_nan() => "NaN".to_owned(),
            real if real > 0.0 => "Infinity".to_owned(),
            _ => "-Infinity".to_owned(),
        })
        .boxed()
}

/// Integers from `least` to `most`, the ends and the last exact ones of JSON more often.
fn integer(least: i128, most: i128) -> BoxedStrategy<String> {
    let edges = [least, most, 0, EXACT_MAX, EXACT_MAX + 1, -EXACT_MAX, -EXACT_MAX - 1];
    let edges: Vec<i128> = edges.into_iter().filter(|edge| (least..=most).contains(edge)).collect();
    prop_oneof![2 => least..=most, 1 => prop::sample::select(edges)].prop_map(|integer| integer.to_string()).boxed()
}

/// JSON as people and programs write it.
fn json_text() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "null",
            "true",
            "false",
            "1e400",
            "-0",
            "0.10",
            "12345678901234567890",
            "\"\\u00e9\""
        ])
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|integer| integer.to_string()),
        "[ a-zé🦀]{0,6}".prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec(("[a-c]", inner), 0..3).prop_map(|items| {
                let items: Vec<String> = items.iter().map(|(key, value)| format!("\"{key}\" :{value}")).collect();
                format!("{{{}}}", items.join(","))
            }),
        ]
    })
    .boxed()
}

/// `HH:MM:SS.ffffff` with hours below `hours_end`.
fn clock(hours_end: u32) -> BoxedStrategy<String> {
    (0..hours_end, 0_u32..60, 0_u32..60, prop_oneof![Just(0_u32), 0_u32..1_000_000, Just(999_999)])
        .prop_map(|(hour, minute, second, micro)| format!("{hour:02}:{minute:02}:{second:02}.{micro:06}"))
        .boxed()
}

/// `YYYY-MM-DD` of years from `least` to `most`.
fn date(least: u32, most: u32) -> BoxedStrategy<String> {
    (prop_oneof![least..=most, Just(least), Just(most)], 1_u32..=12, 1_u32..=28)
        .prop_map(|(year, month, day)| format!("{year:04}-{month:02}-{day:02}"))
        .boxed()
}
