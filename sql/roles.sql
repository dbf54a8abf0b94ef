-- Roles for course-gc that may do what it needs, and nothing else (docs/kubernetes.md). Run it with psql, in each database that course-gc uses, as a
-- superuser, or as the owner of the database and its tables who may create roles; and again after a change and after the first
-- `course-gc migrate`: what is no longer needed is taken back.
--
--     psql "$URL" -v live='public.courses public.file_catalog' -v tables='public.rag_context_cache' -f sql/roles.sql
--
--   live      what the queries of liveness, organizations and references read: tables with their schemas, with blanks between
--   tables    the tables of a store of kind `table`
--   views     instead of `live`, for tables with row-level security: `public.courses:id public.file_catalog:storage_path`; the queries then
--             read `course_gc_view.courses` and `course_gc_view.file_catalog`, which show these columns of all rows
--   reader    the role of liveness.*.url (course_gc_reader)
--   ledger    the role of ledger.url (course_gc_ledger); empty in a database without the ledger
--   rows      the role of stores.*.url of kind `table` (course_gc_rows); empty without such a store
--   definer   who owns the views, and sees all rows (course_gc_definer). Only a superuser can make a role that bypasses row-level security;
--             who is none names the tables' owner here.
--
-- The same name for reader, ledger and rows makes one role of them. Passwords are given afterwards, as with `\password course_gc_reader`.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?reader}  \else \set reader course_gc_reader \endif
\if :{?ledger}  \else \set ledger course_gc_ledger \endif
\if :{?rows}    \else \set rows course_gc_rows \endif
\if :{?definer} \else \set definer course_gc_definer \endif
\if :{?live}    \else \set live '' \endif
\if :{?tables}  \else \set tables '' \endif
\if :{?views}   \else \set views '' \endif

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;

-- What is to be, as two tables, so that each step below is one query.
CREATE TEMPORARY TABLE role_of ON COMMIT DROP AS
    SELECT purpose, name FROM (VALUES ('reader', :'reader'), ('ledger', :'ledger'), ('rows', :'rows')) AS it(purpose, name) WHERE name <> '';
CREATE TEMPORARY TABLE wanted ON COMMIT DROP AS
    SELECT 'reader' AS purpose, word::regclass AS relation, NULL AS shown
        FROM unnest(string_to_array(:'live', ' ')) AS word WHERE word <> ''
    UNION ALL SELECT 'rows', word::regclass, NULL
        FROM unnest(string_to_array(:'tables', ' ')) AS word WHERE word <> ''
    UNION ALL SELECT 'definer', split_part(word, ':', 1)::regclass, split_part(word, ':', 2)
        FROM unnest(string_to_array(:'views', ' ')) AS word WHERE word <> '';

-- The roles.
SELECT DISTINCT format('CREATE ROLE %I LOGIN', name) FROM role_of WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
SELECT format('CREATE ROLE %I NOLOGIN BYPASSRLS', :'definer')
    WHERE EXISTS (SELECT FROM wanted WHERE purpose = 'definer') AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'definer')
\gexec
SELECT format('DO $x$ BEGIN RAISE EXCEPTION %L; END $x$', format('role %I may do everything: name another one', name))
    FROM role_of JOIN pg_roles ON rolname = name WHERE rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication
\gexec

-- What was given before, and is not wanted any more.
SELECT DISTINCT format('REVOKE ALL ON %s FROM %I', c.oid::regclass, name)
    FROM role_of JOIN pg_roles r ON r.rolname = name
    CROSS JOIN pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) AS given
    WHERE given.grantee = r.oid AND c.relowner <> r.oid AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'course_gc')
\gexec

-- Everybody connects. The reader makes a temporary view of its query, to see what stands behind it.
SELECT DISTINCT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), name) FROM role_of
\gexec
SELECT format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), name) FROM role_of WHERE purpose = 'reader'
\gexec

-- The ledger's schema, which the markers of tables and the tombstones share. The first `course-gc migrate` needs the right to create it, although
-- it is there.
SELECT format('GRANT %I TO CURRENT_USER', name) FROM role_of
    WHERE purpose = 'ledger' AND to_regnamespace('course_gc') IS NULL AND NOT pg_has_role(name, 'MEMBER')
\gexec
SELECT format('CREATE SCHEMA IF NOT EXISTS course_gc AUTHORIZATION %I', name) FROM role_of WHERE purpose = 'ledger'
\gexec
SELECT format(CASE WHEN to_regclass('course_gc.runs') IS NULL THEN 'GRANT CREATE ON DATABASE %I TO %I' ELSE 'REVOKE CREATE ON DATABASE %I FROM %I' END,
    current_database(), name) FROM role_of WHERE purpose = 'ledger'
\gexec

-- Who lives: one query reads it, or a view that sees past row-level security.
SELECT DISTINCT format('GRANT USAGE ON SCHEMA %I TO %I', n.nspname, role_of.name)
    FROM wanted JOIN role_of USING (purpose) JOIN pg_class c ON c.oid = relation JOIN pg_namespace n ON n.oid = c.relnamespace
\gexec
SELECT format('GRANT SELECT ON %s TO %I', relation, name) FROM wanted JOIN role_of USING (purpose) WHERE purpose = 'reader'
\gexec
SELECT 'CREATE SCHEMA IF NOT EXISTS course_gc_view' FROM wanted WHERE purpose = 'definer' LIMIT 1
\gexec
SELECT format('GRANT USAGE ON SCHEMA course_gc_view TO %I', name) FROM role_of
    WHERE purpose = 'reader' AND EXISTS (SELECT FROM wanted WHERE purpose = 'definer')
\gexec
SELECT statement FROM wanted JOIN pg_class c ON c.oid = relation JOIN pg_namespace n ON n.oid = c.relnamespace,
    LATERAL (VALUES
        (1, format('GRANT USAGE ON SCHEMA %I TO %I', n.nspname, :'definer')),
        (2, format('GRANT SELECT (%I) ON %s TO %I', shown, relation, :'definer')),
        (3, format('CREATE OR REPLACE VIEW course_gc_view.%I AS SELECT %I FROM %s', c.relname, shown, relation)),
        (4, format('GRANT CREATE, USAGE ON SCHEMA course_gc_view TO %I', :'definer')),
        (5, format('ALTER VIEW course_gc_view.%I OWNER TO %I', c.relname, :'definer')),
        (6, format('REVOKE CREATE ON SCHEMA course_gc_view FROM %I', :'definer')),
        (7, format('GRANT SELECT ON course_gc_view.%I TO %I', c.relname, :'reader'))
    ) AS step(number, statement)
    WHERE purpose = 'definer' ORDER BY relation, number
\gexec

-- Rows that no foreign key ties to their course: read, deleted, and brought back. Nothing is ever updated.
SELECT format('GRANT SELECT, INSERT, DELETE ON %s TO %I', relation, name) FROM wanted JOIN role_of USING (purpose) WHERE purpose = 'rows'
\gexec
SELECT statement FROM role_of,
    LATERAL (VALUES
        (1, 'CREATE SCHEMA IF NOT EXISTS course_gc'),
        (2, 'CREATE TABLE IF NOT EXISTS course_gc.store_markers (relation oid, name text, marker text NOT NULL, PRIMARY KEY (relation, name))'),
        (3, format('GRANT USAGE ON SCHEMA course_gc TO %I', name)),
        (4, format('GRANT SELECT, INSERT, UPDATE ON course_gc.store_markers TO %I', name))
    ) AS step(number, statement)
    WHERE purpose = 'rows' AND EXISTS (SELECT FROM wanted WHERE wanted.purpose = 'rows') ORDER BY number
\gexec

COMMIT;
