//! A dialect in which what is plainly a name or a literal is read as one at once.
//!
//! Before the parser takes a word or a number for what it looks like, it tries to read a type there (`DATE '2024-01-01'`),
//! and writes an error when there is none: for every name and every literal, which is more than half of its time. What
//! cannot be a type is told from the token and the one behind it. Everything else is read as the dialect itself has it, and
//! the tree is the same in every case, but for calls of a function `position`, which no engine has.

use std::any::TypeId;
use std::iter::Peekable;
use std::str::Chars;

use sqlparser::ast::{ColumnOption, Expr, GranteesType, Ident, ObjectNamePart, Statement};
use sqlparser::dialect::{Dialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, Word};

/// Another dialect, read faster.
#[derive(Debug)]
pub(in crate::statement) struct Plain<D>(pub(in crate::statement) D);

/// Keywords of other statements that people call columns by: neither types nor the beginning of an expression.
const NAMES: [Keyword; 10] = [
    Keyword::ID,
    Keyword::KEY,
    Keyword::LANGUAGE,
    Keyword::LEVEL,
    Keyword::NAME,
    Keyword::OWNER,
    Keyword::SIZE,
    Keyword::STATUS,
    Keyword::TYPE,
    Keyword::VALUE,
];

/// How many parts the name of a column has at most: schema, table and its own.
const PARTS_MAX: usize = 3;

/// Reads the name or the literal that comes next, if it is plainly one.
fn plain_prefix(parser: &mut Parser, between: u8) -> Option<Result<Expr, ParserError>> {
    let next = parser.peek_token_ref();
    match &next.token {
        Token::Number(..) | Token::SingleQuotedString(_) => Some(parser.parse_value().map(Expr::Value)),
        Token::Word(word)
            if word.keyword == Keyword::POSITION && parser.peek_nth_token_ref(1).token == Token::LParen =>
        {
            parser.advance_token();
            Some(position(parser, between))
        }
        Token::Word(word) if may_be_column(word) => {
            let parts = parts_there(parser)?;
            if parts == 1 {
                let name = word.to_ident(next.span);
                parser.advance_token();
                return Some(Ok(Expr::Identifier(name)));
            }
            // `INTERVAL a.b` is no interval of a column to the parser, whatever it is.
            if matches!(&parser.get_current_token().token, Token::Word(word) if word.keyword == Keyword::INTERVAL) {
                return None;
            }
            let mut names = Vec::with_capacity(parts);
            for part in 0..parts {
                if part > 0 {
                    parser.advance_token();
                }
                let next = parser.peek_token_ref();
                let Token::Word(word) = &next.token else { return None };
                names.push(word.to_ident(next.span));
                parser.advance_token();
            }
            Some(Ok(Expr::CompoundIdentifier(names)))
        }
        _ => None,
    }
}

/// Reads what is in the parentheses of `POSITION (… IN …)`. The parser tries it as a function afterwards, which no engine has, and
/// which takes twice as long with every one that is in another.
fn position(parser: &mut Parser, between: u8) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let expr = Box::new(parser.parse_subexpr(between)?);
    parser.expect_keyword(Keyword::IN)?;
    let r#in = Box::new(parser.parse_expr()?);
    parser.expect_token(&Token::RParen)?;
    Ok(Expr::Position { expr, r#in })
}

fn may_be_column(word: &Word) -> bool {
    word.keyword == Keyword::NoKeyword || NAMES.contains(&word.keyword)
}

/// Returns how many parts the name has that comes next, where what follows makes neither a call nor a type of it.
fn parts_there(parser: &Parser) -> Option<usize> {
    let token = |at: usize| &parser.peek_nth_token_ref(at).token;
    let mut at = 1;
    // Looking ahead takes as long as what is looked over, so only as far as names of columns go.
    while at < PARTS_MAX * 2 && *token(at) == Token::Period && matches!(token(at + 1), Token::Word(_)) {
        at += 2;
    }
    let ends = match token(at) {
        Token::EOF
        | Token::Comma
        | Token::RParen
        | Token::Eq
        | Token::Neq
        | Token::Lt
        | Token::Gt
        | Token::LtEq
        | Token::GtEq
        | Token::Plus
        | Token::Minus
        | Token::Mul
        | Token::Div
        | Token::StringConcat => true,
        Token::Word(word) => word.keyword != Keyword::ARRAY,
        _ => false,
    };
    ends.then_some(at.div_ceil(2))
}

/// What is answered with yes or no, each as the dialect itself has it.
macro_rules! as_it_is {
    ($($method:ident)*) => {
        $(fn $method(&self) -> bool {
            self.0.$method()
        })*
    };
}

impl<D: Dialect> Dialect for Plain<D> {
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        plain_prefix(parser, self.prec_value(Precedence::Between)).or_else(|| self.0.parse_prefix(parser))
    }

    fn dialect(&self) -> TypeId {
        self.0.dialect()
    }

    fn is_delimited_identifier_start(&self, character: char) -> bool {
        self.0.is_delimited_identifier_start(character)
    }

    fn is_nested_delimited_identifier_start(&self, character: char) -> bool {
        self.0.is_nested_delimited_identifier_start(character)
    }

    fn peek_nested_delimited_identifier_quotes(&self, characters: Peekable<Chars<'_>>) -> Option<(char, Option<char>)> {
        self.0.peek_nested_delimited_identifier_quotes(characters)
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        self.0.identifier_quote_style(identifier)
    }

    fn is_identifier_start(&self, character: char) -> bool {
        self.0.is_identifier_start(character)
    }

    fn is_identifier_part(&self, character: char) -> bool {
        self.0.is_identifier_part(character)
    }

    fn is_custom_operator_part(&self, character: char) -> bool {
        self.0.is_custom_operator_part(character)
    }

    fn parse_infix(&self, parser: &mut Parser, left: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        self.0.parse_infix(parser, left, precedence)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        self.0.get_next_precedence(parser)
    }

    fn get_next_precedence_default(&self, parser: &Parser) -> Result<u8, ParserError> {
        self.0.get_next_precedence_default(parser)
    }

    fn parse_statement(&self, parser: &mut Parser) -> Option<Result<Statement, ParserError>> {
        self.0.parse_statement(parser)
    }

    fn parse_column_option(
        &self,
        parser: &mut Parser,
    ) -> Result<Option<Result<Option<ColumnOption>, ParserError>>, ParserError> {
        self.0.parse_column_option(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        self.0.prec_value(precedence)
    }

    fn prec_unknown(&self) -> u8 {
        self.0.prec_unknown()
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        self.0.is_reserved_for_identifier(keyword)
    }

    fn get_reserved_keywords_for_select_item_operator(&self) -> &[Keyword] {
        self.0.get_reserved_keywords_for_select_item_operator()
    }

    fn get_reserved_grantees_types(&self) -> &[GranteesType] {
        self.0.get_reserved_grantees_types()
    }

    fn is_column_alias(&self, keyword: &Keyword, parser: &mut Parser) -> bool {
        self.0.is_column_alias(keyword, parser)
    }

    fn is_select_item_alias(&self, explicit: bool, keyword: &Keyword, parser: &mut Parser) -> bool {
        self.0.is_select_item_alias(explicit, keyword, parser)
    }

    fn is_table_factor(&self, keyword: &Keyword, parser: &mut Parser) -> bool {
        self.0.is_table_factor(keyword, parser)
    }

    fn is_table_alias(&self, keyword: &Keyword, parser: &mut Parser) -> bool {
        self.0.is_table_alias(keyword, parser)
    }

    fn is_table_factor_alias(&self, explicit: bool, keyword: &Keyword, parser: &mut Parser) -> bool {
        self.0.is_table_factor_alias(explicit, keyword, parser)
    }

    fn is_identifier_generating_function_name(&self, name: &Ident, parts: &[ObjectNamePart]) -> bool {
        self.0.is_identifier_generating_function_name(name, parts)
    }

    as_it_is! {
        allow_extract_custom
        allow_extract_single_quotes
        convert_type_before_value
        describe_requires_table_keyword
        ignores_wildcard_escapes
        require_interval_qualifier
        requires_single_line_comment_whitespace
        support_map_literal_syntax
        supports_aliased_function_args
        supports_alter_column_type_using
        supports_alter_user_as_alter_role
        supports_array_join_syntax
        supports_array_typedef_with_brackets
        supports_array_typedef_without_element_type
        supports_asc_desc_in_column_definition
        supports_bang_not_operator
        supports_binary_kw_as_cast
        supports_bitwise_shift_operators
        supports_boolean_literals
        supports_column_definition_trailing_commas
        supports_comma_separated_drop_column_list
        supports_comma_separated_set_assignments
        supports_comma_separated_trim
        supports_comment_on
        supports_comment_optimizer_hint
        supports_connect_by
        supports_constraint_keyword_without_name
        supports_create_index_with_clause
        supports_create_table_like_parenthesized
        supports_create_table_multi_schema_info_sources
        supports_create_table_select
        supports_create_table_using
        supports_create_view_comment_syntax
        supports_cross_join_constraint
        supports_cte_without_as
        supports_data_type_signed_suffix
        supports_detach
        supports_dictionary_syntax
        supports_dollar_as_money_prefix
        supports_dollar_placeholder
        supports_double_ampersand_operator
        supports_empty_projections
        supports_end_transaction_modifier
        supports_eq_alias_assignment
        supports_exclude_constraint
        supports_execute_immediate
        supports_explain_with_utility_options
        supports_extract_comma_syntax
        supports_factorial_operator
        supports_filter_during_aggregation
        supports_from_first_insert
        supports_from_first_select
        supports_from_trailing_commas
        supports_geometric_types
        supports_group_by_expr
        supports_group_by_with_modifier
        supports_in_empty_list
        supports_in_unparenthesized_expr
        supports_insert_format
        supports_insert_set
        supports_insert_table_alias
        supports_insert_table_function
        supports_insert_table_query
        supports_install
        supports_interpolate
        supports_interval_options
        supports_key_column_option
        supports_lambda_functions
        supports_leading_comma_before_table_options
        supports_left_associative_joins_without_parens
        supports_limit_by
        supports_limit_comma
        supports_listen_notify
        supports_load_data
        supports_load_extension
        supports_long_type_as_bigint
        supports_map_literal_with_angle_brackets
        supports_match_against
        supports_match_recognize
        supports_multiline_comment_hints
        supports_named_fn_args_with_assignment_operator
        supports_named_fn_args_with_colon_operator
        supports_named_fn_args_with_eq_operator
        supports_named_fn_args_with_expr_name
        supports_named_fn_args_with_rarrow_operator
        supports_nested_comments
        supports_notnull_operator
        supports_numeric_literal_underscores
        supports_numeric_prefix
        supports_object_name_double_dot_notation
        supports_optimize_table
        supports_order_by_all
        supports_order_by_using_operator
        supports_outer_join_operator
        supports_parens_around_table_factor
        supports_parenthesized_set_variables
        supports_partiql
        supports_partition_by_after_order_by
        supports_pipe_operator
        supports_prewhere
        supports_projection_trailing_commas
        supports_quote_delimited_string
        supports_select_exclude
        supports_select_expr_star
        supports_select_format
        supports_select_item_multi_column_alias
        supports_select_modifiers
        supports_select_wildcard_except
        supports_select_wildcard_exclude
        supports_select_wildcard_ilike
        supports_select_wildcard_rename
        supports_select_wildcard_replace
        supports_select_wildcard_with_alias
        supports_semantic_view_table_factor
        supports_set_names
        supports_set_stmt_without_operator
        supports_settings
        supports_show_like_before_in
        supports_space_separated_column_options
        supports_start_transaction_modifier
        supports_string_escape_constant
        supports_string_literal_backslash_escape
        supports_string_literal_concatenation
        supports_string_literal_concatenation_with_newline
        supports_struct_literal
        supports_subquery_as_function_arg
        supports_table_hints
        supports_table_sample_before_alias
        supports_table_versioning
        supports_top_before_distinct
        supports_trailing_commas
        supports_triple_quoted_string
        supports_try_convert
        supports_unicode_string_literal
        supports_unpivot_expr
        supports_update_order_by
        supports_user_host_grantee
        supports_values_as_table_factor
        supports_window_clause_named_window_reference
        supports_window_function_null_treatment_arg
        supports_with_fill
        supports_within_after_array_aggregation
        supports_xml_expressions
    }
}
