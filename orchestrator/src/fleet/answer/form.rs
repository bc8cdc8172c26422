//! The form that a server asks to be filled in: its fields, and what they take.

use rmcp::model::{
    ElicitationSchema, EnumSchema, JsonObject, MultiSelectEnumSchema, PrimitiveSchemaDefinition,
    SingleSelectEnumSchema, StringFormat,
};
use serde_json::{Value, json};

/// Most fields of one form: more than a person fills in.
const FIELDS_MAX: usize = 50;

/// Most choices of one field.
const CHOICES_MAX: usize = 500;

/// Longest text that a field takes, in characters, when the server sets no limit.
const TEXT_CHARS_MAX: usize = 10_000;

/// What a server wants to know.
pub(super) struct Form {
    pub(super) fields: Vec<Field>,
}

/// One field.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) title: Option<String>,
    pub(super) description: Option<String>,
    pub(super) required: bool,
    pub(super) kind: Kind,
    /// The server's own value, if the field takes it.
    pub(super) default: Option<Value>,
}

/// What a field takes.
pub(super) enum Kind {
    Text { min: usize, max: usize, format: Option<StringFormat> },
    Number { min: Option<f64>, max: Option<f64> },
    Integer { min: Option<i64>, max: Option<i64> },
    YesNo,
    One(Vec<Choice>),
    Many { choices: Vec<Choice>, min: usize, max: usize },
}

/// One of several values.
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) title: String,
}

impl Form {
    /// Reads the schema of a form.
    pub(super) fn of(schema: &ElicitationSchema) -> Result<Self, String> {
        if schema.properties.len() > FIELDS_MAX {
            return Err(format!("its form has more than {FIELDS_MAX} fields"));
        }
        let names = schema.property_order.clone().unwrap_or_else(|| schema.properties.keys().cloned().collect());
        let required = schema.required.as_deref().unwrap_or_default();
        let fields = names.into_iter().filter_map(|name| {
            let definition = schema.properties.get(&name)?;
            Some(Field::of(name.clone(), definition, required.contains(&name)))
        });
        Ok(Self { fields: fields.collect::<Result<_, _>>()? })
    }

    /// Returns the form filled in with what is given of it, and the server's own values for the rest.
    pub(super) fn filled(&self, given: &JsonObject) -> Result<JsonObject, String> {
        let mut content = JsonObject::new();
        for field in &self.fields {
            match given.get(&field.name).or(field.default.as_ref()) {
                Some(value) => {
                    field.check(value).map_err(|reason| format!("the field `{}` {reason}", field.name))?;
                    content.insert(field.name.clone(), value.clone());
                }
                None if field.required => return Err(format!("the field `{}` is required", field.name)),
                None => {}
            }
        }
        Ok(content)
    }
}

impl Field {
    fn of(name: String, definition: &PrimitiveSchemaDefinition, required: bool) -> Result<Self, String> {
        let (title, description, kind, default) = match definition {
            PrimitiveSchemaDefinition::String(text) => (
                &text.title,
                &text.description,
                Kind::Text {
                    min: text.min_length.unwrap_or(0) as usize,
                    max: text.max_length.map_or(TEXT_CHARS_MAX, |max| max as usize),
                    format: text.format,
                },
                text.default.as_ref().map(|text| json!(text)),
            ),
            PrimitiveSchemaDefinition::Number(number) => (
                &number.title,
                &number.description,
                Kind::Number { min: number.minimum, max: number.maximum },
                number.default.map(|number| json!(number)),
            ),
            PrimitiveSchemaDefinition::Integer(number) => (
                &number.title,
                &number.description,
                Kind::Integer { min: number.minimum, max: number.maximum },
                number.default.map(|number| json!(number)),
            ),
            PrimitiveSchemaDefinition::Boolean(choice) => {
                (&choice.title, &choice.description, Kind::YesNo, choice.default.map(|choice| json!(choice)))
            }
            PrimitiveSchemaDefinition::Enum(choices) => choice_field(choices),
            _ => return Err(format!("its field `{name}` is of a kind that is not known")),
        };
        if let Kind::One(choices) | Kind::Many { choices, .. } = &kind
            && choices.len() > CHOICES_MAX
        {
            return Err(format!("its field `{name}` has more than {CHOICES_MAX} choices"));
        }
        let (title, description) = (title.as_deref().map(str::to_owned), description.as_deref().map(str::to_owned));
        let mut field = Self { name, title, description, required, kind, default: None };
        field.default = default.filter(|value| field.check(value).is_ok());
        Ok(field)
    }

    /// Says why the field does not take `value`.
    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        match (&self.kind, value) {
            (Kind::Text { min, max, format }, Value::String(text)) => check_text(text, *min, *max, *format),
            (Kind::Integer { min, max }, Value::Number(number)) => match number.as_i64() {
                Some(number) => check_range(&number, *min, *max),
                None => Err("takes a whole number".to_owned()),
            },
            (Kind::Number { min, max }, Value::Number(number)) => match number.as_f64() {
                Some(number) => check_range(&number, *min, *max),
                None => Err("takes a number".to_owned()),
            },
            (Kind::YesNo, Value::Bool(_)) => Ok(()),
            (Kind::One(choices), Value::String(text)) => check_choice(choices, text),
            (Kind::Many { choices, min, max }, Value::Array(values)) => {
                if values.len() < *min || values.len() > *max {
                    return Err(format!("takes {min} to {max} choices"));
                }
                for (number, value) in values.iter().enumerate() {
                    if values[..number].contains(value) {
                        return Err("takes every choice once".to_owned());
                    }
                    check_choice(choices, value.as_str().ok_or("takes texts")?)?;
                }
                Ok(())
            }
            (kind, _) => Err(format!("takes {}", kind.wanted())),
        }
    }

    /// Reads what a person wrote.
    pub(super) fn read(&self, written: &str) -> Result<Value, String> {
        let value = match &self.kind {
            Kind::Text { .. } => json!(written),
            Kind::Integer { .. } => json!(written.parse::<i64>().map_err(|_| "takes a whole number")?),
            Kind::Number { .. } => {
                let number: f64 = written.parse().map_err(|_| "takes a number")?;
                serde_json::Number::from_f64(number).map(Value::Number).ok_or("takes a number")?
            }
            Kind::YesNo => match written.to_ascii_lowercase().as_str() {
                "y" | "yes" | "true" => json!(true),
                "n" | "no" | "false" => json!(false),
                _ => return Err("takes yes or no".to_owned()),
            },
            Kind::One(choices) => json!(chosen(choices, written)?),
            Kind::Many { choices, .. } => {
                let parts = written.split(',').map(str::trim).filter(|part| !part.is_empty());
                json!(parts.map(|part| chosen(choices, part)).collect::<Result<Vec<_>, _>>()?)
            }
        };
        self.check(&value)?;
        Ok(value)
    }
}

impl Kind {
    /// Says in a few words what is to be written.
    pub(super) fn wanted(&self) -> String {
        match self {
            Self::Text { format: Some(StringFormat::Email), .. } => "an e-mail address".to_owned(),
            Self::Text { format: Some(StringFormat::Uri), .. } => "a link".to_owned(),
            Self::Text { format: Some(StringFormat::Date), .. } => "a date, 2026-11-21".to_owned(),
            Self::Text { format: Some(StringFormat::DateTime), .. } => "an instant, 2026-11-21T08:00:00Z".to_owned(),
            Self::Text { .. } => "text".to_owned(),
            Self::Number { min, max } => format!("a number{}", range(*min, *max)),
            Self::Integer { min, max } => format!("a whole number{}", range(*min, *max)),
            Self::YesNo => "yes or no".to_owned(),
            Self::One(_) => "one of these".to_owned(),
            Self::Many { .. } => "any of these, with commas between".to_owned(),
        }
    }
}

type Parts<'a> =
    (&'a Option<std::borrow::Cow<'static, str>>, &'a Option<std::borrow::Cow<'static, str>>, Kind, Option<Value>);

fn choice_field(schema: &EnumSchema) -> Parts<'_> {
    let plain = |value: &String| Choice { value: value.clone(), title: value.clone() };
    let titled = |it: &rmcp::model::ConstTitle| Choice { value: it.const_.clone(), title: it.title.clone() };
    let many = |choices: Vec<Choice>, min: Option<u64>, max: Option<u64>| {
        let most = choices.len();
        let limit = |limit: Option<u64>, or| limit.map_or(or, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Kind::Many { choices, min: limit(min, 0), max: limit(max, most) }
    };
    match schema {
        EnumSchema::Single(SingleSelectEnumSchema::Untitled(one)) => (
            &one.title,
            &one.description,
            Kind::One(one.enum_.iter().map(plain).collect()),
            one.default.as_ref().map(|value| json!(value)),
        ),
        EnumSchema::Single(SingleSelectEnumSchema::Titled(one)) => (
            &one.title,
            &one.description,
            Kind::One(one.one_of.iter().map(titled).collect()),
            one.default.as_ref().map(|value| json!(value)),
        ),
        EnumSchema::Multi(MultiSelectEnumSchema::Untitled(several)) => (
            &several.title,
            &several.description,
            many(several.items.enum_.iter().map(plain).collect(), several.min_items, several.max_items),
            several.default.as_ref().map(|values| json!(values)),
        ),
        EnumSchema::Multi(MultiSelectEnumSchema::Titled(several)) => (
            &several.title,
            &several.description,
            many(several.items.any_of.iter().map(titled).collect(), several.min_items, several.max_items),
            several.default.as_ref().map(|values| json!(values)),
        ),
        EnumSchema::Legacy(one) => {
            let names = one.enum_names.as_deref().unwrap_or_default();
            let choices = one.enum_.iter().enumerate().map(|(number, value)| Choice {
                value: value.clone(),
                title: names.get(number).unwrap_or(value).clone(),
            });
            (&one.title, &one.description, Kind::One(choices.collect()), one.default.as_ref().map(|value| json!(value)))
        }
        // A kind that rmcp learns later has no choices, and takes none.
        _ => (&None, &None, Kind::One(Vec::new()), None),
    }
}

fn check_text(text: &str, min: usize, max: usize, format: Option<StringFormat>) -> Result<(), String> {
    let length = text.chars().count();
    if length < min || length > max {
        return Err(format!("takes {min} to {max} characters"));
    }
    let fits = match format {
        Some(StringFormat::Email) => text.split_once('@').is_some_and(|(name, host)| {
            !name.is_empty() && !host.is_empty() && !host.contains('@') && !text.contains(char::is_whitespace)
        }),
        Some(StringFormat::Uri) => text.parse::<http::Uri>().is_ok_and(|uri| uri.scheme().is_some()),
        Some(StringFormat::Date) => text.parse::<jiff::civil::Date>().is_ok(),
        Some(StringFormat::DateTime) => text.parse::<jiff::Timestamp>().is_ok(),
        _ => true,
    };
    if fits { Ok(()) } else { Err(format!("takes {}", Kind::Text { min, max, format }.wanted())) }
}

fn check_range<T: PartialOrd + std::fmt::Display>(number: &T, min: Option<T>, max: Option<T>) -> Result<(), String> {
    let low = min.as_ref().is_some_and(|min| number < min);
    let high = max.as_ref().is_some_and(|max| number > max);
    if low || high { Err(format!("takes a number{}", range(min, max))) } else { Ok(()) }
}

fn range<T: std::fmt::Display>(min: Option<T>, max: Option<T>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        (Some(min), None) => format!(" from {min}"),
        (None, Some(max)) => format!(" up to {max}"),
        (None, None) => String::new(),
    }
}

fn check_choice(choices: &[Choice], value: &str) -> Result<(), String> {
    if choices.iter().any(|choice| choice.value == value) { Ok(()) } else { Err("takes one of its choices".to_owned()) }
}

/// Returns the value of the choice that was written as its number, its title or itself.
fn chosen<'a>(choices: &'a [Choice], written: &str) -> Result<&'a str, String> {
    let named = choices.iter().find(|choice| choice.value == written || choice.title == written);
    let numbered = || written.parse::<usize>().ok()?.checked_sub(1).and_then(|index| choices.get(index));
    named.or_else(numbered).map(|choice| choice.value.as_str()).ok_or_else(|| "takes one of its choices".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(definition: &Value) -> Field {
        let schema = json!({"type": "object", "properties": {"it": definition}});
        Form::of(&serde_json::from_value(schema).unwrap()).unwrap().fields.remove(0)
    }

    #[test]
    fn every_kind_reads_what_fits_and_refuses_what_does_not() {
        let choices = json!([{"const": "r", "title": "Red"}, {"const": "g", "title": "Green"}]);
        for (definition, good, bad) in [
            (json!({"type": "string", "minLength": 2, "maxLength": 3}), vec![("ab", json!("ab"))], vec!["a", "abcd"]),
            (json!({"type": "string", "format": "email"}), vec![("a@b", json!("a@b"))], vec!["a", "@b", "a@", "a @b"]),
            (json!({"type": "string", "format": "uri"}), vec![("https://a/b", json!("https://a/b"))], vec!["a b", "x"]),
            (
                json!({"type": "string", "format": "date"}),
                vec![("2026-01-31", json!("2026-01-31"))],
                vec!["2026-02-31"],
            ),
            (
                json!({"type": "integer", "minimum": 1, "maximum": 9}),
                vec![("9", json!(9))],
                vec!["0", "10", "1.5", "x"],
            ),
            (json!({"type": "number", "minimum": 0.5}), vec![("0.5", json!(0.5))], vec!["0.4", "NaN", "inf", ""]),
            (json!({"type": "boolean"}), vec![("Yes", json!(true)), ("n", json!(false))], vec!["", "2", "maybe"]),
            (
                json!({"type": "string", "enum": ["a", "b"]}),
                vec![("b", json!("b")), ("1", json!("a"))],
                vec!["c", "0", "3"],
            ),
            (json!({"type": "string", "oneOf": choices}), vec![("Green", json!("g")), ("r", json!("r"))], vec!["Blue"]),
            (
                json!({"type": "array", "items": {"type": "string", "enum": ["a", "b", "c"]}, "minItems": 1, "maxItems": 2}),
                vec![("a, c", json!(["a", "c"])), ("2", json!(["b"]))],
                vec!["", "a,b,c", "a,a", "d"],
            ),
        ] {
            let field = field(&definition);
            for (written, value) in good {
                assert_eq!(field.read(written), Ok(value), "{definition} {written}");
            }
            for written in bad {
                assert!(field.read(written).is_err(), "{definition} {written}");
            }
        }
    }

    #[test]
    fn default_that_the_field_itself_refuses_is_none() {
        assert_eq!(field(&json!({"type": "integer", "minimum": 5, "default": 4})).default, None);
        assert_eq!(field(&json!({"type": "string", "enum": ["a"], "default": "b"})).default, None);
        assert_eq!(field(&json!({"type": "number", "default": 95.5})).default, Some(json!(95.5)));
    }

    #[test]
    fn fields_come_in_the_order_of_the_server_and_not_without_end() {
        let schema = r#"{"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "string"}}}"#;
        let form = Form::of(&serde_json::from_str(schema).unwrap()).unwrap();
        assert_eq!(form.fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>(), ["z", "a"]);
        let many: serde_json::Map<String, Value> =
            (0..51).map(|n| (format!("f{n}"), json!({"type": "string"}))).collect();
        assert!(Form::of(&serde_json::from_value(json!({"type": "object", "properties": many})).unwrap()).is_err());
    }
}
