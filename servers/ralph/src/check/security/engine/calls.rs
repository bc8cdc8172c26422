//! Calls: what they give back, and what they change.

use super::Engine;
use super::evaluate::formatted;
use crate::check::security::dialect::Dialect;
use crate::check::security::ir::{Id, Kind};
use crate::check::security::value::{HOLE, Value};

/// Methods whose result is the receiver in another form.
const TRANSPARENT_METHODS: &[&str] = &[
    "strip",
    "lstrip",
    "rstrip",
    "lower",
    "upper",
    "title",
    "trim",
    "trimEnd",
    "trimStart",
    "toString",
    "to_string",
    "to_owned",
    "toLowerCase",
    "toUpperCase",
    "encode",
    "decode",
    "as_bytes",
    "as_str",
    "as_ref",
    "clone",
    "getBytes",
    "into",
    "unwrap",
    "unwrap_or_default",
    "unwrap_or",
    "expect",
    "String",
    "string",
    "to_s",
    "to_str",
    "dup",
    "freeze",
    "strip!",
    "chomp",
    "slice",
    "substring",
    "replace",
    "replaceAll",
    "sub",
    "gsub",
    "toCharArray",
    "into_bytes",
    "to_string_lossy",
    "display",
    "as_deref",
    "intern",
    "valueOf",
    "normalize",
    "resolve",
    "absolute",
    "expanduser",
    "toPath",
    "toFile",
    "borrow",
    "into_owned",
    "dedent",
    "squish",
    "Bytes",
    "flatten",
    "build",
    "toLocaleString",
    "padStart",
    "repeat",
    "concat_ws",
    "stripIndent",
    "first",
    "last",
    "downcase",
    "upcase",
    "capitalize",
    "trim_start",
    "trim_end",
    "copy",
    "iter",
    "to_vec",
    "filter",
    "collect",
    "sort",
    "reverse",
    "values",
    "b",
    "ok_or",
    "as_os_str",
    "force_encoding",
    "casefold",
    "format_map_",
];

/// Functions whose result is their argument in another form.
const TRANSPARENT: &[&str] = &[
    "str",
    "String",
    "bytes",
    "bytearray",
    "unicode",
    "repr",
    "sqlalchemy.text",
    "text",
    "Path",
    "pathlib.Path",
    "Some",
    "Ok",
    "Box.new",
    "String.from",
    "Cow.from",
    "textwrap.dedent",
    "inspect.cleandoc",
    "os.fspath",
    "os.path.abspath",
    "os.path.expanduser",
    "os.path.normpath",
    "os.path.realpath",
    "path.normalize",
    "path.resolve",
    "decodeURIComponent",
    "decodeURI",
    "unescape",
    "Buffer.from",
    "Promise.resolve",
    "list",
    "tuple",
    "set",
    "sorted",
    "reversed",
    "Array",
    "Paths.get",
    "Path.of",
    "Arrays.asList",
    "List.of",
    "Path.new",
    "PathBuf.from",
    "io.BytesIO",
    "BytesIO",
    "StringIO",
    "io.StringIO",
    "URI.create",
    "filepath.Clean",
    "path.Clean",
    "File",
    "java.io.File",
    "String.valueOf",
    "strings.TrimSpace",
    "strings.ToLower",
    "strings.ToUpper",
    "strings.Trim",
    "trim",
    "strtolower",
    "strtoupper",
    "html_entity_decode",
    "urldecode",
    "stripslashes",
    "strval",
    "typing.cast",
    "cast",
    "Objects.requireNonNull",
    "vec!",
    "strdup",
    "Pathname",
    "Pathname.new",
    "Object.keys",
    "Object.values",
    "Object.freeze",
    "Object.entries",
    "Array.from",
    "bytes.NewBufferString",
    "bytes.NewReader",
    "strings.NewReader",
    "template.HTML_",
    "new.String",
    "flask.escape_",
    "std.fs.canonicalize",
    "ObjectInputStream_",
    "frozenset",
    "dict",
    "Set",
    "Map",
    "collections.OrderedDict",
    "json.loads",
    "JSON.parse",
    "base64.b64decode",
    "atob",
    "base64_decode",
    "urllib.parse.unquote",
    "unquote",
    "enumerate",
    "zip",
    "map",
    "filter",
];

/// Calls whose result is their parts one behind the other.
const JOINING: &[&str] = &[
    "os.path.join",
    "path.join",
    "path.posix.join",
    "filepath.Join",
    "path/filepath.Join",
    "path.Join",
    "File.join",
    "Paths.get",
    "Path.of",
    "File",
    "java.io.File",
    "concat!",
    "fmt.Sprint",
    "fmt.Sprintln",
    "Rails.root.join",
    "implode",
    "util.format",
];

/// Methods that join their receiver and their arguments.
const JOINING_METHODS: &[&str] = &[
    "concat",
    "append",
    "push_str",
    "resolve",
    "join",
    "joinpath",
    "add",
    "plus",
    "sendline_",
    "arg_",
    "insert",
    "appendCodePoint",
    "push",
    "resolveSibling",
    "concatenate",
];

/// Methods that put their arguments behind what the receiver holds.
const ADDING_METHODS: &[&str] = &[
    "append",
    "push",
    "push_str",
    "WriteString",
    "write_str",
    "extend",
    "insert",
    "add",
    "concat",
    "appendf",
    "unshift",
    "write",
];

/// Words in the name of a function whose result is no longer what somebody outside said.
const CLEANING: &[&str] = &[
    "escape",
    "sanitiz",
    "sanitis",
    "quote",
    "purif",
    "secure_filename",
    "basename",
    "whitelist",
    "allowlist",
    "parseint",
    "tointeger",
    "safe_join",
    "strip_tags",
    "htmlspecialchars",
    "htmlentities",
    "encodeuricomponent",
    "encodeforhtml",
    "clean",
    "bleach",
    "uuid",
    "intval",
    "validat",
    "check",
    "verify",
    "floatval",
    "tonumber",
    "parsefloat",
    "literal_eval",
    "hexdigest",
    "to_i",
    "to_f",
    "isoformat",
    "strftime",
    "parselong",
    "atoi",
    "ident",
    "safe",
    "urlencode",
    "url_encode",
    "digest",
    "hash",
    "randombytes",
    "random",
    "timestamp",
    "bcrypt",
    "parse_obj",
    "model_validate",
    "getfilename",
    "file_name",
    "quotemeta",
    "slugify",
    "rawurlencode",
    "htmlescape",
    "b64encode",
    "base64encode",
    "to_hex",
    "tohex",
    "hexlify",
];

/// Functions whose result is a number.
const NUMERIC: &[&str] = &[
    "int",
    "float",
    "bool",
    "len",
    "ord",
    "abs",
    "round",
    "sum",
    "hash",
    "id",
    "time.time",
    "Number",
    "parseInt",
    "parseFloat",
    "Math.floor",
    "Math.round",
    "Math.ceil",
    "Math.max",
    "Math.min",
    "Math.random",
    "BigInt",
    "Boolean",
    "Date.now",
    "Integer.parseInt",
    "Integer.valueOf",
    "Long.parseLong",
    "Long.valueOf",
    "UUID.fromString",
    "UUID.randomUUID",
    "strconv.Atoi",
    "strconv.ParseInt",
    "strconv.Itoa",
    "strconv.FormatInt",
    "strconv.Quote",
    "count",
    "strlen",
    "sizeof",
    "Integer",
    "Float",
    "os.getpid",
    "getpid",
    "time",
    "atol",
    "strtol",
    "strtoul",
    "max",
    "min",
    "uuid.uuid4",
    "uuid.UUID",
    "decimal.Decimal",
    "ipaddress.ip_address",
    "crypto.randomUUID",
    "datetime.datetime.now",
    "datetime.date.today",
    "datetime.now",
    "secrets.token_hex",
    "strconv.FormatUint",
    "isset",
    "is_numeric",
    "random.randint",
    "filepath.Base",
    "path/filepath.Base",
    "path.Base",
    "int64",
    "int32",
    "uint",
    "uint64",
    "float64",
    "strconv.ParseFloat",
    "strconv.ParseBool",
    "strconv.ParseUint",
    "File.extname",
];

fn last_of(path: &str) -> &str {
    let path = path.strip_suffix(')').and_then(|path| path.rfind('(').map(|at| &path[..at])).unwrap_or(path);
    path.rsplit('.').next().unwrap_or(path)
}

fn ends_with(path: &str, names: &[&str]) -> bool {
    names.iter().any(|name| {
        path.strip_suffix(name)
            .is_some_and(|before| before.is_empty() || (name.contains('.') && before.ends_with(['.', '/'])))
    })
}

impl<'s> Engine<'_, 's> {
    /// Returns what is known of what a call gives back.
    pub(super) fn call_value(&mut self, id: Id, callee: Id, arguments: &[Id]) -> Value {
        let path = self.path(callee).unwrap_or_else(|| "?".into());
        let last = last_of(&path).to_owned();
        let own = path.strip_prefix('?');
        // A name promises nothing where the function itself can be read.
        let defined_here = own.is_some_and(|name| self.returns.contains_key(name));
        if ends_with(&path, NUMERIC) || !defined_here && is_cleaning(&path, &last, self.dialect) {
            return Value { text: HOLE.to_string(), path: self.path(id), ..Value::safe() };
        }
        let receiver = match self.ir.kind(callee) {
            Kind::Member(object, _) => Some(*object),
            _ => None,
        };
        if let Some(value) = self.formatting(&path, &last, receiver, arguments) {
            return value;
        }
        if let Some(name) = own
            && receiver.is_none()
            && let Some(returned) = self.returns.get(name)
        {
            let returned = returned.clone();
            let tainted = returned.tainted || (returned.dynamic && self.any_tainted(arguments));
            return Value { tainted, node: None, ..returned };
        }
        if let Some(name) = receiver.filter(|receiver| matches!(self.ir.kind(*receiver), Kind::Name(name) if matches!(*name, "self" | "this" | "$this" | "s")))
            .and_then(|_| self.returns.get(last.as_str()))
        {
            let returned = name.clone();
            return Value { node: None, ..returned };
        }
        if ends_with(&path, TRANSPARENT) && !arguments.is_empty() {
            let parts: Vec<Value> = arguments.iter().map(|argument| self.value(*argument)).collect();
            let mut value = match ends_with(&path, JOINING) {
                true => Value::concatenated(parts),
                false => parts.into_iter().next().unwrap_or_default(),
            };
            let own_path = value.path.take();
            value.path = if value.tainted { own_path.or_else(|| self.path(id)) } else { self.path(id) };
            return value;
        }
        if ends_with(&path, JOINING) {
            let mut values = Vec::new();
            for argument in arguments {
                self.spread_values(*argument, &mut values);
            }
            let mut result = Value::default();
            for (place, value) in values.iter().enumerate() {
                if place > 0 {
                    result.text.push('/');
                }
                result.add(value);
            }
            result.path = self.path(id);
            return result;
        }
        if let Some(receiver) = receiver
            && TRANSPARENT_METHODS.contains(&last.as_str())
        {
            let mut value = self.value(receiver);
            // What is put into a text instead of something else counts as put in.
            if matches!(last.as_str(), "replace" | "replaceAll" | "sub" | "gsub")
                && let Some(by) = arguments.get(1)
            {
                let by = self.value(*by);
                if by.dynamic {
                    value.built |= !value.text.is_empty();
                    value.dynamic = true;
                    value.tainted |= by.tainted;
                }
            }
            value.path = self.path(id);
            value.node = None;
            return value;
        }
        // What a function makes of each: `ids.map(() => "?")`.
        if matches!(last.as_str(), "map" | "flatMap" | "Array.from" | "collect" | "from" | "map_")
            && let Some(body) = arguments.iter().find_map(|argument| match self.ir.kind(*argument) {
                Kind::Function(function) if function.is_expression => function.body,
                _ => None,
            })
        {
            let value = self.value(body);
            return Value { path: None, node: None, ..value };
        }
        // A builder: `new StringBuilder("a").append(b)`.
        if is_builder(&last) {
            let mut value =
                Value::concatenated(arguments.iter().map(|argument| self.value(*argument)).collect::<Vec<_>>());
            value.path = Some("StringBuilder".into());
            return value;
        }
        if let Some(receiver) = receiver
            && JOINING_METHODS.contains(&last.as_str())
            && matches!(last.as_str(), "append" | "concat" | "push_str" | "resolve" | "joinpath" | "join" | "insert")
        {
            let receiver = self.value(receiver);
            let mut values = vec![receiver.clone()];
            for argument in arguments {
                self.spread_values(*argument, &mut values);
            }
            // `", ".join(parts)`, `parts.join(", ")`: constant when every part is.
            let mut value = Value::concatenated(values);
            value.path = if receiver.path.as_deref() == Some("StringBuilder") { receiver.path } else { self.path(id) };
            value.node = None;
            return value;
        }
        let tainted = self.any_tainted(arguments) || receiver.is_some_and(|receiver| self.value(receiver).tainted);
        Value { tainted, path: self.path(id), ..Value::unknown() }
    }

    pub(super) fn any_tainted(&mut self, arguments: &[Id]) -> bool {
        arguments.iter().take(30).any(|argument| self.value(*argument).tainted)
    }

    /// Returns the text that a formatting call makes, when `path` is one.
    fn formatting(&mut self, path: &str, last: &str, receiver: Option<Id>, arguments: &[Id]) -> Option<Value> {
        match last {
            "format" | "formatted" | "format_map" | "substitute" | "safe_substitute"
                if receiver.is_some()
                    && !matches!(
                        path,
                        "String.format" | "string.format" | "MessageFormat.format" | "java.text.MessageFormat.format"
                    ) =>
            {
                let format = self.value(receiver?);
                if last == "format" && !format.text.contains(['{', '$', '%']) {
                    return None;
                }
                let mut values = Vec::new();
                for argument in arguments {
                    self.spread_values(*argument, &mut values);
                }
                Some(formatted(&format, &values, if last == "formatted" { '%' } else { '{' }))
            }
            "Sprintf" | "sprintf" | "vsprintf" | "Errorf" | "format" | "asprintf"
                if receiver.is_none()
                    || path.contains("fmt.")
                    || path.starts_with("String.")
                    || path.starts_with("MessageFormat") =>
            {
                let (format, rest) = arguments.split_first()?;
                let format = self.value(*format);
                let mut values = Vec::new();
                for argument in rest {
                    self.spread_values(*argument, &mut values);
                }
                Some(formatted(&format, &values, '%'))
            }
            "format!" | "write!" | "writeln!" | "format_args!" | "formatx!" | "formatdoc!" | "indoc!" => {
                let skip = usize::from(last.starts_with("write"));
                let (format, rest) = arguments.get(skip..)?.split_first()?;
                let mut format = self.value(*format);
                let values: Vec<Value> = rest.iter().map(|argument| self.value(*argument)).collect();
                self.inline_names(&mut format);
                // Names that are written into the format itself are counted there.
                Some(formatted(&format, &values, '{'))
            }
            "Join" if path.ends_with("strings.Join") => {
                let mut values = Vec::new();
                self.spread_values(*arguments.first()?, &mut values);
                Some(Value::concatenated(values))
            }
            "join" if path == "String.join" || matches!(path, "\"\".join") => {
                let mut values = Vec::new();
                for argument in arguments {
                    self.spread_values(*argument, &mut values);
                }
                Some(Value::concatenated(values))
            }
            _ => None,
        }
    }

    /// Counts the names written into a format of Rust: `"... {name} ..."`.
    fn inline_names(&mut self, format: &mut Value) {
        let text = format.text.clone();
        let mut rest = text.as_str();
        while let Some(at) = rest.find('{') {
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('{') {
                rest = after;
                continue;
            }
            let end = rest.find(['}', ':']).unwrap_or(rest.len());
            let name = &rest[..end];
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                continue;
            }
            let value = match self.lookup(name) {
                Some(binding) => (*binding.value).clone(),
                None if name.bytes().all(|byte| byte.is_ascii_digit()) => continue,
                None if name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') => Value::safe(),
                None => Value::unknown(),
            };
            format.built |= value.dynamic;
            format.dynamic |= value.dynamic;
            format.tainted |= value.tainted;
        }
    }

    /// Takes note of what a call changes: builders, buffers, lists.
    pub(super) fn effects(&mut self, path: &str, last: &str, callee: Id, arguments: &[Id]) {
        let ir = self.ir;
        if self.dialect == Dialect::C || path == "std.fmt.Write" {
            let from = match last {
                "sprintf" | "vsprintf" | "strcpy" | "strcat" | "stpcpy" | "strncpy" | "strncat" | "asprintf" => 1,
                "snprintf" | "vsnprintf" => 2,
                "strlcpy" | "strlcat" => 1,
                "fgets" | "gets" | "scanf" | "fscanf" | "read" | "recv" | "fread" | "getline" => usize::MAX,
                _ => return,
            };
            if from == usize::MAX {
                let at = match last {
                    "read" | "recv" => 1,
                    _ => 0,
                };
                let places: Vec<Id> = match last {
                    "scanf" | "fscanf" => arguments.iter().skip(1).copied().collect(),
                    _ => arguments.get(at).copied().into_iter().collect(),
                };
                for place in places {
                    if let Some(name) = self.key(place) {
                        let numeric = self
                            .lookup(name)
                            .is_some_and(|binding| binding.value.path.as_deref().is_some_and(super::is_number));
                        if !numeric {
                            self.update(name, |value| value.or(&Value::unknown()));
                        }
                    }
                }
                return;
            }
            let Some(name) = arguments.first().and_then(|target| self.key(*target)) else { return };
            let Some(rest) = arguments.get(from..) else { return };
            let value = match (last.contains("printf"), rest) {
                (true, [format, rest @ ..]) => {
                    let format = self.value(*format);
                    let values: Vec<Value> = rest.iter().map(|argument| self.value(*argument)).collect();
                    formatted(&format, &values, '%')
                }
                (_, [source, ..]) => self.value(*source),
                _ => return,
            };
            let adds = last.contains("cat");
            if adds {
                self.update(name, |before| before.add(&value));
            } else {
                let declared = self.lookup(name).and_then(|binding| binding.value.path.clone());
                self.bind(name, Value { path: declared, ..value });
            }
            return;
        }
        if matches!(last, "write!" | "writeln!" | "Fprintf" | "Fprint") {
            let Some(name) = arguments.first().and_then(|target| self.key(*target)) else { return };
            let Some((format, rest)) = arguments.get(1..).and_then(|rest| rest.split_first()) else { return };
            let mut format = self.value(*format);
            let values: Vec<Value> = rest.iter().map(|argument| self.value(*argument)).collect();
            if last.ends_with('!') {
                self.inline_names(&mut format);
            }
            let value = formatted(&format, &values, if last.ends_with('!') { '{' } else { '%' });
            self.update(name, |before| before.add(&value));
            return;
        }
        if !ADDING_METHODS.contains(&last) {
            return;
        }
        // The receiver of a chain: `sb.append(a).append(b)`; each call of it comes by here.
        let mut at = callee;
        let name = loop {
            match ir.kind(at) {
                Kind::Member(object, _) => match ir.kind(*object) {
                    Kind::Call { callee: inner, .. } => at = *inner,
                    _ => break self.key(*object),
                },
                _ => break None,
            }
        };
        let Some(name) = name else { return };
        if self.lookup(name).is_none_or(|binding| {
            binding.value.path.as_deref().is_some_and(|path| {
                !path.starts_with('?')
                    && !path.contains("Builder")
                    && !path.contains("Buffer")
                    && !path.contains("String")
            })
        }) {
            return;
        }
        let mut values = Vec::new();
        for argument in arguments {
            self.spread_values(*argument, &mut values);
        }
        self.update(name, |before| {
            for value in &values {
                before.add(value);
            }
        });
    }
}

fn is_builder(last: &str) -> bool {
    matches!(last, "StringBuilder" | "StringBuffer" | "StringJoiner" | "StringWriter")
}

/// Returns whether a function of this name makes what it is given harmless.
fn is_cleaning(path: &str, last: &str, dialect: Dialect) -> bool {
    let lower = last.to_ascii_lowercase();
    if matches!(
        lower.as_str(),
        "unescape"
            | "unquote"
            | "html_safe"
            | "mark_safe"
            | "quoted_printable_decode"
            | "safestring"
            | "unsafe"
            | "safe_load"
            | "yaml_unsafe_load"
            | "check_output"
            | "check_call"
            | "html_unescape"
            | "raw"
    ) {
        return false;
    }
    // A module that is there for escaping.
    let module = path.rsplit('.').nth(1).unwrap_or_default().to_ascii_lowercase();
    if ["escape", "sanitiz", "purif"].iter().any(|word| module.contains(word)) && !module.contains("unescape") {
        return true;
    }
    // In C a check returns a number; nothing is cleaned by its name.
    dialect != Dialect::C
        && CLEANING.iter().any(|word| lower.contains(word))
        && !lower.contains("unsafe")
        && !lower.contains("unescape")
}
