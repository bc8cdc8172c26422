-- What has to be known of the tables of a statement to mask columns: $1 their names.
WITH RECURSIVE named AS (
    SELECT name, to_regclass(name)::oid AS oid FROM unnest($1::text[]) AS name
), depends AS (
    SELECT rule.ev_class AS view, refobjid AS base, refobjsubid AS number, ev_action
    FROM pg_rewrite rule JOIN pg_depend ON classid = 'pg_rewrite'::regclass AND objid = rule.oid
        AND refclassid = 'pg_class'::regclass AND refobjid <> rule.ev_class
    WHERE ev_type = '1'
), below (oid) AS (
    SELECT oid FROM named WHERE oid IS NOT NULL
    UNION
    SELECT next.oid FROM below CROSS JOIN LATERAL (
        SELECT base AS oid FROM depends WHERE view = below.oid
        UNION ALL
        SELECT inhrelid FROM pg_inherits WHERE inhparent = below.oid
    ) AS next
), family (oid) AS (
    SELECT oid FROM below
    UNION
    SELECT next.oid FROM family CROSS JOIN LATERAL (
        SELECT inhrelid AS oid FROM pg_inherits WHERE inhparent = family.oid
        UNION ALL
        SELECT inhparent FROM pg_inherits WHERE inhrelid = family.oid
    ) AS next
)
SELECT 'named' AS kind, oid::bigint AS one, 0::bigint AS two, 0 AS number, name AS first, '' AS second, '' AS third
FROM named WHERE oid IS NOT NULL
UNION ALL
SELECT 'column', class.oid::bigint, 0, attnum, nspname, relname, attname
FROM family JOIN pg_class class USING (oid) JOIN pg_namespace namespace ON namespace.oid = relnamespace
    JOIN pg_attribute ON attrelid = class.oid AND attnum > 0 AND NOT attisdropped
UNION ALL
SELECT 'child', inhparent::bigint, inhrelid::bigint, 0, '', '', '' FROM pg_inherits WHERE inhparent IN (SELECT oid FROM family)
UNION ALL
SELECT 'generated', attrelid::bigint, refobjsubid, attnum, '', '', ''
FROM pg_attribute JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    JOIN pg_depend ON refclassid = 'pg_class'::regclass AND refobjid = attrelid AND refobjsubid <> 0
        AND ((classid = 'pg_attrdef'::regclass AND objid = pg_attrdef.oid)
            OR (classid = 'pg_class'::regclass AND objid = attrelid AND objsubid = attnum))
WHERE attgenerated <> '' AND attrelid IN (SELECT oid FROM family)
UNION ALL
SELECT 'view', view::bigint, base::bigint, CASE WHEN ev_action::text ~ ':varattno 0 ' THEN -1 ELSE number END, '', '', ''
FROM depends WHERE view IN (SELECT oid FROM below)
ORDER BY 1, 2, 4
