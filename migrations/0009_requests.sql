-- What the delete path asked for: evidence that a course is dead, and a promise that nothing of it stays.
CREATE TABLE course_gc.requests (
    id           uuid PRIMARY KEY,
    course_id    text COLLATE "C" NOT NULL,
    timing       text NOT NULL CHECK (timing IN ('after_delete', 'before_delete')),
    requested_by text NOT NULL,
    -- Whoever asks again with the same key gets what it got then.
    key          text,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Until when the course's row may still be there.
    expires_at   timestamptz,
    state        text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'void', 'expired')),
    -- The last answer; without one, nobody has looked yet.
    answer       jsonb,
    -- The last run that found the course dead.
    answered_by  uuid,
    UNIQUE (requested_by, key)
);
CREATE INDEX requests_open ON course_gc.requests (requested_at) WHERE state = 'open';
CREATE INDEX requests_course ON course_gc.requests (course_id);

-- The newest tombstone of each liveness source that a run has read: a newer one wants a run.
CREATE TABLE course_gc.seen_tombstones (
    source text PRIMARY KEY,
    newest bigint NOT NULL
);
