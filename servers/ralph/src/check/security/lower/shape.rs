//! Which kind of node of which grammar is what.

use super::Dialect;

/// What a kind of node is lowered as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Left out.
    Skip,
    Name,
    Literal,
    /// A word that stands for itself: Ruby's `:name`.
    Symbol,
    Text,
    /// Texts side by side.
    Concat,
    Member,
    Index,
    Call,
    Method,
    Construct,
    Macro,
    /// A word of the language that acts: PHP's `echo` and `include`.
    Intrinsic,
    /// A command in backticks.
    Shell,
    Pair,
    Attribute,
    Shorthand,
    Binary,
    Unary,
    Ternary,
    List,
    Map,
    Composite,
    Spread,
    Assign,
    Declare,
    Declarations,
    As,
    For,
    Each,
    Import,
    Function,
    Decorated,
    Return,
    Leave,
    If,
    /// Ruby's `leave unless fine?`.
    Guard,
    /// The value is that of the last.
    Last,
    Cast,
    CastLast,
    Class,
    /// Its parts in order.
    Other,
}

/// Returns what `kind` of `dialect` is lowered as.
pub fn of(dialect: Dialect, kind: &str) -> Shape {
    let own = match dialect {
        Dialect::Python => python(kind),
        Dialect::JavaScript | Dialect::TypeScript | Dialect::Tsx => script(kind),
        Dialect::Rust => rust(kind),
        Dialect::Go => go(kind),
        Dialect::Java => java(kind),
        Dialect::C => c(kind),
        Dialect::Php => php(kind),
        Dialect::Ruby => ruby(kind),
        Dialect::Bash => None,
    };
    own.unwrap_or_else(|| common(kind))
}

fn python(kind: &str) -> Option<Shape> {
    Some(match kind {
        "import_statement" | "import_from_statement" => Shape::Import,
        "true" | "false" | "none" | "ellipsis" => Shape::Literal,
        "type" | "type_conversion" | "format_specifier" => Shape::Skip,
        "as_pattern" => Shape::As,
        "for_statement" | "for_in_clause" => Shape::For,
        _ => return None,
    })
}

fn script(kind: &str) -> Option<Shape> {
    Some(match kind {
        "import_statement" => Shape::Import,
        "type_annotation"
        | "type_arguments"
        | "type_parameters"
        | "interface_declaration"
        | "type_alias_declaration" => Shape::Skip,
        "field_definition" | "public_field_definition" => Shape::Declare,
        "pair_pattern" => Shape::Pair,
        "object_assignment_pattern" | "assignment_pattern" | "as_expression" | "satisfies_expression" => Shape::Cast,
        "for_in_statement" => Shape::For,
        _ => return None,
    })
}

fn rust(kind: &str) -> Option<Shape> {
    Some(match kind {
        "block" => Shape::Last,
        "match_pattern" | "lifetime" | "type_arguments" | "attribute_item" | "visibility_modifier" => Shape::Skip,
        "field_initializer" => Shape::Pair,
        "shorthand_field_initializer" => Shape::Shorthand,
        "let_condition" => Shape::As,
        "let_declaration" | "const_item" | "static_item" => Shape::Declare,
        "use_declaration" => Shape::Import,
        "generic_function" => Shape::Cast,
        "impl_item" | "mod_item" | "trait_item" => Shape::Class,
        "for_expression" => Shape::For,
        _ => return None,
    })
}

fn go(kind: &str) -> Option<Shape> {
    Some(match kind {
        "expression_list" | "literal_element" => Shape::Other,
        "range_clause" | "for_statement" => Shape::For,
        "import_declaration" => Shape::Import,
        "keyed_element" => Shape::Pair,
        "nil" => Shape::Literal,
        "type_conversion_expression" => Shape::CastLast,
        _ => return None,
    })
}

fn java(kind: &str) -> Option<Shape> {
    Some(match kind {
        "import_declaration" => Shape::Import,
        "local_variable_declaration" | "field_declaration" => Shape::Declarations,
        "resource" => Shape::Declare,
        "generic_type" => Shape::Cast,
        "array_creation_expression" => Shape::CastLast,
        "element_value_pair" => Shape::Pair,
        "enhanced_for_statement" => Shape::For,
        _ => return None,
    })
}

fn c(kind: &str) -> Option<Shape> {
    Some(match kind {
        "preproc_def" => Shape::Declare,
        "preproc_arg" => Shape::Text,
        "preproc_include" => Shape::Skip,
        "pointer_declarator" | "array_declarator" | "parenthesized_declarator" => Shape::Cast,
        "declaration" => Shape::Declarations,
        _ => return None,
    })
}

fn php(kind: &str) -> Option<Shape> {
    Some(match kind {
        "variable_name" | "name" | "dynamic_variable_name" => Shape::Name,
        "class_constant_access_expression" | "qualified_name" => Shape::Member,
        "echo_statement"
        | "print_intrinsic"
        | "include_expression"
        | "include_once_expression"
        | "require_expression"
        | "require_once_expression" => Shape::Intrinsic,
        "exit_statement" => Shape::Leave,
        "array_element_initializer" => Shape::Pair,
        "array_creation_expression" => Shape::Map,
        "namespace_use_declaration" => Shape::Import,
        "sequence_expression" => Shape::Other,
        "text_interpolation" | "php_tag" | "cast_type" => Shape::Skip,
        "cast_expression" => Shape::Cast,
        "property_promotion_parameter" | "attribute_list" => Shape::Other,
        _ => return None,
    })
}

fn ruby(kind: &str) -> Option<Shape> {
    Some(match kind {
        "body_statement" | "then" | "begin" | "parenthesized_statements" => Shape::Last,
        "if" | "unless" | "elsif" | "while" | "until" => Shape::If,
        "if_modifier" | "unless_modifier" | "while_modifier" => Shape::Guard,
        "method" | "singleton_method" | "lambda" | "block" | "do_block" => Shape::Function,
        "class" | "module" | "singleton_class" => Shape::Class,
        "call" => Shape::Method,
        "nil" => Shape::Literal,
        "global_variable" | "instance_variable" | "class_variable" | "constant" => Shape::Name,
        "return" => Shape::Return,
        "next" | "break" | "redo" => Shape::Leave,
        "binary" => Shape::Binary,
        "unary" => Shape::Unary,
        "conditional" => Shape::Ternary,
        "for" => Shape::For,
        "hash" => Shape::Map,
        "string_array" | "symbol_array" => Shape::List,
        "bare_string" | "heredoc_beginning" => Shape::Text,
        "bare_symbol" => Shape::Symbol,
        _ => return None,
    })
}

fn common(kind: &str) -> Shape {
    match kind {
        "comment" | "line_comment" | "block_comment" | "doc_comment" | "heredoc_start" | "heredoc_end" => Shape::Skip,
        "identifier"
        | "this"
        | "self"
        | "super"
        | "crate"
        | "property_identifier"
        | "type_identifier"
        | "field_identifier"
        | "package_identifier"
        | "metavariable"
        | "private_property_identifier"
        | "undefined"
        | "namespace_name"
        | "relative_scope" => Shape::Name,
        "integer"
        | "float"
        | "number"
        | "true"
        | "false"
        | "null"
        | "boolean"
        | "integer_literal"
        | "float_literal"
        | "boolean_literal"
        | "char_literal"
        | "character_literal"
        | "null_literal"
        | "null_pointer_literal"
        | "decimal_integer_literal"
        | "hex_integer_literal"
        | "decimal_floating_point_literal"
        | "int_literal"
        | "imaginary_literal"
        | "rune_literal"
        | "regex"
        | "number_literal"
        | "unit_expression" => Shape::Literal,
        "simple_symbol" | "hash_key_symbol" => Shape::Symbol,
        "string"
        | "template_string"
        | "string_literal"
        | "raw_string_literal"
        | "interpreted_string_literal"
        | "encapsed_string"
        | "heredoc"
        | "nowdoc"
        | "heredoc_body"
        | "delimited_symbol"
        | "system_lib_string" => Shape::Text,
        "concatenated_string" | "chained_string" => Shape::Concat,
        "attribute"
        | "member_expression"
        | "selector_expression"
        | "field_expression"
        | "scoped_identifier"
        | "scoped_type_identifier"
        | "qualified_type"
        | "field_access"
        | "member_access_expression"
        | "nullsafe_member_access_expression"
        | "scoped_property_access_expression"
        | "scope_resolution"
        | "nested_identifier" => Shape::Member,
        "subscript" | "subscript_expression" | "index_expression" | "array_access" | "element_reference" => {
            Shape::Index
        }
        "call" | "call_expression" | "function_call_expression" => Shape::Call,
        "method_invocation"
        | "member_call_expression"
        | "nullsafe_member_call_expression"
        | "scoped_call_expression" => Shape::Method,
        "new_expression" | "object_creation_expression" => Shape::Construct,
        "macro_invocation" => Shape::Macro,
        "subshell" | "shell_command_expression" => Shape::Shell,
        "keyword_argument" | "pair" => Shape::Pair,
        "jsx_attribute" => Shape::Attribute,
        "shorthand_property_identifier" | "shorthand_property_identifier_pattern" => Shape::Shorthand,
        "binary_operator" | "binary_expression" | "boolean_operator" | "comparison_operator" => Shape::Binary,
        "unary_expression" | "not_operator" | "unary_operator" | "unary_op_expression" | "pointer_expression" => {
            Shape::Unary
        }
        "conditional_expression" | "ternary_expression" => Shape::Ternary,
        "list" | "tuple" | "set" | "array" | "array_expression" | "array_initializer" | "initializer_list"
        | "tuple_expression" | "expression_list" | "array_pattern" | "pattern_list" | "tuple_pattern"
        | "list_pattern" => Shape::List,
        "dictionary" | "object" | "object_pattern" => Shape::Map,
        "composite_literal" | "struct_expression" => Shape::Composite,
        "dictionary_splat"
        | "list_splat"
        | "spread_element"
        | "splat_argument"
        | "hash_splat_argument"
        | "rest_pattern"
        | "variadic_unpacking" => Shape::Spread,
        "assignment"
        | "augmented_assignment"
        | "assignment_expression"
        | "augmented_assignment_expression"
        | "compound_assignment_expr"
        | "operator_assignment"
        | "short_var_declaration"
        | "assignment_statement"
        | "reference_assignment_expression" => Shape::Assign,
        "variable_declarator"
        | "init_declarator"
        | "named_expression"
        | "var_spec"
        | "const_spec"
        | "const_element"
        | "property_element"
        | "static_variable_declaration" => Shape::Declare,
        "list_comprehension" | "generator_expression" | "set_comprehension" | "dictionary_comprehension" => Shape::Each,
        "function_definition"
        | "function_declaration"
        | "function_item"
        | "method_declaration"
        | "method_definition"
        | "arrow_function"
        | "function_expression"
        | "generator_function"
        | "generator_function_declaration"
        | "lambda"
        | "lambda_expression"
        | "closure_expression"
        | "func_literal"
        | "constructor_declaration"
        | "anonymous_function" => Shape::Function,
        "decorated_definition" => Shape::Decorated,
        "return_statement" | "return_expression" => Shape::Return,
        "raise_statement"
        | "throw_statement"
        | "throw_expression"
        | "break_statement"
        | "continue_statement"
        | "break_expression"
        | "continue_expression"
        | "goto_statement" => Shape::Leave,
        "if_statement" | "elif_clause" | "while_statement" | "if_expression" | "while_expression"
        | "else_if_clause" => Shape::If,
        "sequence_expression" | "comma_expression" => Shape::Last,
        "cast_expression"
        | "type_cast_expression"
        | "non_null_expression"
        | "reference_expression"
        | "try_expression"
        | "await_expression" => Shape::Cast,
        "class_definition" | "class_declaration" | "class" => Shape::Class,
        _ => Shape::Other,
    }
}
