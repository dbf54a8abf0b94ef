-- What callers of the API changed, or tried to: who, what, when, and what came of it.
CREATE TABLE course_gc.audit (
    -- The request's, which its answer names, too.
    id         uuid PRIMARY KEY,
    caller     text NOT NULL,
    method     text NOT NULL,
    route      text NOT NULL,
    -- None if it is about no single course.
    course_id  text COLLATE "C",
    began_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz,
    -- What it was answered; without it, this program ended before it could answer.
    status     smallint
);
CREATE INDEX audit_began ON course_gc.audit (began_at);
CREATE INDEX audit_course ON course_gc.audit (course_id) WHERE course_id IS NOT NULL;
