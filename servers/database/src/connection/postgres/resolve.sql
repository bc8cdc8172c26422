-- What a statement reads and calls, as the catalogue has it: views and policies taken apart, names resolved.
-- $1 tables, $2 functions, $3 attributes, $4 operators, $5 types, $6 functions of the engine that only compute,
-- $7 functions that the operator allows, $8 schemas that functions are named with, $9 extensions that only compute,
-- $10 attributes that may be of a value of any type, $11 whether there are values for parameters, which come as text.
-- Objects from 16384 on were made by somebody.
WITH RECURSIVE named AS (
    SELECT DISTINCT to_regclass(name)::oid AS oid FROM unnest($1::text[]) AS name
), read (oid) AS (
    SELECT oid FROM named WHERE oid IS NOT NULL
    UNION
    SELECT next.oid
    FROM read
    CROSS JOIN LATERAL (
        SELECT (regexp_matches(ev_action::text, ':relid (\d+)', 'g'))[1]::oid AS oid
        FROM pg_rewrite WHERE ev_class = read.oid AND ev_type = '1' AND read.oid >= 16384
        UNION ALL
        SELECT inhrelid FROM pg_inherits WHERE inhparent = read.oid
        UNION ALL
        SELECT (regexp_matches(polqual::text, ':relid (\d+)', 'g'))[1]::oid FROM pg_policy WHERE polrelid = read.oid
    ) AS next
    WHERE next.oid <> 0
), relation AS (
    SELECT class.oid, class.relkind, class.relname, namespace.nspname,
        ARRAY(SELECT ev_action::text FROM pg_rewrite WHERE ev_class = class.oid AND ev_type = '1' AND class.oid >= 16384)
        || ARRAY(SELECT polqual::text FROM pg_policy WHERE polrelid = class.oid) AS trees
    FROM read JOIN pg_class class USING (oid) JOIN pg_namespace namespace ON namespace.oid = class.relnamespace
), above (oid) AS (
    -- What the tables that are read are parts of.
    SELECT inhparent FROM pg_inherits JOIN read ON inhrelid = read.oid
    UNION
    SELECT inhparent FROM pg_inherits JOIN above ON inhrelid = above.oid
), type (oid) AS (
    -- The types that are named, those of the tables' rows and of what is computed behind them, and those that they are made from.
    SELECT start.oid FROM (
        SELECT to_regtype(name)::oid AS oid FROM unnest($5::text[]) AS name WHERE to_regtype(name) IS NOT NULL
        UNION
        SELECT reltype FROM relation JOIN pg_class class USING (oid) WHERE class.oid >= 16384 AND reltype <> 0
        UNION
        SELECT found[1]::oid FROM relation, unnest(trees) AS tree, regexp_matches(tree, ':resulttype (\d+)', 'g') AS found
    ) AS start
    UNION
    SELECT next.oid
    FROM type
    CROSS JOIN LATERAL (
        SELECT unnest(ARRAY[typelem, typbasetype]) AS oid FROM pg_type WHERE pg_type.oid = type.oid
        UNION ALL
        SELECT atttypid FROM pg_type composite JOIN pg_attribute ON attrelid = composite.typrelid
        WHERE composite.oid = type.oid AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT rngsubtype FROM pg_range WHERE rngtypid = type.oid
    ) AS next
    WHERE next.oid <> 0
), rule (tree) AS (
    SELECT conbin::text FROM pg_constraint WHERE contypid <> 0 AND contypid IN (SELECT oid FROM type)
), called AS (
    SELECT found[1]::oid AS oid FROM rule, regexp_matches(tree, ':(?:funcid|aggfnoid|winfnoid) (\d+)', 'g') AS found
    UNION
    SELECT operator.oprcode::oid FROM rule, regexp_matches(tree, ':opno (\d+)', 'g') AS found
        JOIN pg_operator operator ON operator.oid = found[1]::oid
    WHERE operator.oid >= 16384
    UNION
    SELECT found[1]::oid AS oid FROM relation, unnest(trees) AS tree,
        regexp_matches(tree, ':(?:funcid|aggfnoid|winfnoid) (\d+)', 'g') AS found
    UNION
    SELECT operator.oprcode::oid FROM relation, unnest(trees) AS tree,
        regexp_matches(tree, ':opno (\d+)', 'g') AS found JOIN pg_operator operator ON operator.oid = found[1]::oid
    WHERE operator.oid >= 16384
    UNION
    -- Overloads: the engine may choose any of them.
    SELECT function.oid FROM pg_proc function JOIN pg_namespace namespace ON namespace.oid = pronamespace
    WHERE proname = ANY ($2) AND function.oid >= 16384 AND nspname = ANY (current_schemas(true) || $8::text[])
    UNION
    -- `t.f` is `f(t)`, and `(x).f` is `f(x)` for an `x` of any type. Nothing makes a value of the type `internal`.
    SELECT function.oid FROM pg_proc function
        JOIN pg_namespace namespace ON namespace.oid = pronamespace
        JOIN pg_type argument ON argument.oid = proargtypes[0]
    WHERE proname = ANY ($3::text[]::name[]) AND nspname = ANY (current_schemas(true))
        AND pronargs - pronargdefaults <= 1 AND pronargs >= 1 AND argument.typname <> 'internal'
        AND (argument.typtype IN ('c', 'p', 'd') OR proname = ANY ($10::text[]::name[]))
    UNION
    SELECT oprcode::oid FROM pg_operator WHERE oprname = ANY ($4) AND oid >= 16384
    UNION
    -- Casts that need no word in the statement, to a type that it names, or to one of the engine's own.
    SELECT castfunc FROM pg_cast WHERE castfunc <> 0 AND oid >= 16384 AND (castcontext = 'i' OR casttarget < 16384
        OR casttarget IN (SELECT oid FROM type) OR ($11::boolean AND castsource = 'text'::regtype))
    UNION
    -- What sorts, groups and compares values of types that somebody made, where it is no code of the engine or an extension.
    SELECT amproc::oid FROM pg_amproc JOIN pg_proc function ON function.oid = amproc JOIN pg_language language ON language.oid = prolang
    WHERE pg_amproc.oid >= 16384 AND lanname NOT IN ('c', 'internal')
    UNION
    SELECT oprcode::oid FROM pg_amop JOIN pg_operator operator ON operator.oid = amopopr
        JOIN pg_proc function ON function.oid = oprcode JOIN pg_language language ON language.oid = prolang
    WHERE pg_amop.oid >= 16384 AND lanname NOT IN ('c', 'internal')
), judged AS (
    SELECT CASE WHEN nspname = ANY (current_schemas(false)) THEN proname ELSE nspname || '.' || proname END AS name,
        CASE WHEN nspname = 'pg_catalog' AND function.oid < 16384 THEN
            proname = ANY ($6)
            OR EXISTS (SELECT FROM pg_cast WHERE castfunc = function.oid)
            OR EXISTS (SELECT FROM pg_operator WHERE oprcode = function.oid)
        ELSE provolatile <> 'v' AND NOT prosecdef AND (
            (nspname || '.' || proname) = ANY ($7) OR proname = ANY ($7)
            OR (lanname IN ('c', 'internal', 'sql') AND EXISTS (
                SELECT FROM pg_depend JOIN pg_extension extension ON extension.oid = refobjid
                WHERE classid = 'pg_proc'::regclass AND objid = function.oid AND refclassid = 'pg_extension'::regclass
                    AND deptype = 'e' AND extname = ANY ($9)))
        ) END AS harmless
    FROM called JOIN pg_proc function USING (oid)
        JOIN pg_namespace namespace ON namespace.oid = pronamespace
        JOIN pg_language language ON language.oid = prolang
)
SELECT 'function' AS kind, name, NULL::text AS schema, NULL::text AS relkind FROM judged WHERE harmless IS NOT TRUE
UNION ALL
-- What may depend on more than values: views and policies, and what somebody made that is not immutable.
SELECT 'made', '', NULL, NULL
WHERE EXISTS (SELECT FROM called JOIN pg_proc USING (oid) WHERE provolatile <> 'i')
    OR EXISTS (SELECT FROM relation WHERE cardinality(trees) > 0)
    OR EXISTS (SELECT FROM pg_cast WHERE oid >= 16384 AND castcontext = 'i' AND castmethod = 'i')
UNION ALL
SELECT 'parent', relname, nspname, relkind::text FROM above JOIN pg_class class USING (oid) JOIN pg_namespace namespace ON namespace.oid = relnamespace
UNION ALL
SELECT CASE WHEN oid IN (SELECT oid FROM named) THEN 'named' ELSE 'relation' END, relname, nspname, relkind::text FROM relation
