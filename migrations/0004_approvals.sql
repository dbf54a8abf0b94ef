-- The breaker that held it in a plan or run: it holds it until somebody approves, or it is no longer an orphan.
ALTER TABLE course_gc.orphans ADD COLUMN latched text;

-- Who approved what is held, and why, and until when.
CREATE TABLE course_gc.approvals (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest      text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('breakers', 'discontinuity', 'halt')),
    reason      text NOT NULL CHECK (btrim(reason) <> ''),
    approved_by text NOT NULL,
    approved_at timestamptz NOT NULL,
    until       timestamptz NOT NULL CHECK (until > approved_at)
);
CREATE INDEX approvals_until ON course_gc.approvals (until);

-- What an approval of orphans covers, and nothing besides. Other evidence makes an orphan another thing.
CREATE TABLE course_gc.approved_orphans (
    approval  bigint NOT NULL REFERENCES course_gc.approvals ON DELETE CASCADE,
    store     text   NOT NULL,
    source    text   NOT NULL,
    course_id text   COLLATE "C" NOT NULL,
    evidence  text   NOT NULL,
    PRIMARY KEY (approval, store, source, course_id, evidence)
);

-- The sizes of live sets that an approval of a halt accepts.
CREATE TABLE course_gc.accepted_sizes (
    approval bigint NOT NULL REFERENCES course_gc.approvals ON DELETE CASCADE,
    source   text   NOT NULL,
    live     bigint NOT NULL,
    PRIMARY KEY (approval, source)
);

-- Of a batch, the courses and bytes that count in the breakers: what was approved does not. Null: all of it counts.
ALTER TABLE course_gc.intents ADD COLUMN counting text[], ADD COLUMN counting_bytes bigint;
