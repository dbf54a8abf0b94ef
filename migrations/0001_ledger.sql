-- The ledger: what was seen, what was meant, what was done. Everything lies in this schema.
CREATE SCHEMA IF NOT EXISTS course_gc;

-- One row a plan or run. A run without an end was killed or is under way.
CREATE TABLE course_gc.runs (
    id          uuid PRIMARY KEY,
    mode        text NOT NULL CHECK (mode IN ('plan', 'run')),
    started_at  timestamptz NOT NULL,
    finished_at timestamptz,
    verdict     text,
    -- The whole report, as `--output json` prints it.
    report      jsonb
);
CREATE INDEX runs_started_at ON course_gc.runs (started_at DESC);

-- How many ids each liveness source returned, and their union: the highest of seven days is what a drop is judged by.
CREATE TABLE course_gc.populations (
    run_id uuid   NOT NULL REFERENCES course_gc.runs ON DELETE CASCADE,
    source text   NOT NULL,
    live   bigint NOT NULL,
    PRIMARY KEY (run_id, source)
);

-- Ids that a run saw live: what tells the departed from strangers.
CREATE TABLE course_gc.known_ids (
    course_id   text COLLATE "C" PRIMARY KEY,
    departed_at timestamptz
);
CREATE INDEX known_ids_departed_at ON course_gc.known_ids (departed_at) WHERE departed_at IS NOT NULL;

-- The orphans that are there now, with their clocks.
CREATE TABLE course_gc.orphans (
    store       text   NOT NULL,
    source      text   NOT NULL,
    course_id   text   COLLATE "C" NOT NULL,
    evidence    text   NOT NULL,
    resources   bigint NOT NULL,
    bytes       bigint,
    fingerprint bigint NOT NULL,
    entangled   bigint NOT NULL,
    decision    text,
    first_seen  timestamptz NOT NULL,
    -- The last run that saw it, finished or not.
    seen_run    uuid   NOT NULL,
    seen_at     timestamptz NOT NULL,
    -- What the clock had accumulated when the last finished run that saw it had started.
    accrued_ms  bigint NOT NULL DEFAULT 0,
    counted_at  timestamptz,
    -- What it becomes if `seen_run` finishes.
    pending_ms  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (store, source, course_id)
);

-- One row a batch, written before anything is deleted. Without an end: whoever comes next looks at everything anew.
CREATE TABLE course_gc.intents (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id      uuid   NOT NULL,
    store       text   NOT NULL,
    courses     text[] NOT NULL,
    handles     bigint NOT NULL,
    opened_at   timestamptz NOT NULL DEFAULT now(),
    closed_at   timestamptz,
    -- The courses of which something went; null if nobody lived to tell.
    deleted_courses text[],
    deleted     bigint,
    bytes       bigint,
    absent      bigint,
    failed      bigint,
    unattempted bigint,
    spared      bigint
);
CREATE INDEX intents_open ON course_gc.intents (store) WHERE closed_at IS NULL;
CREATE INDEX intents_opened_at ON course_gc.intents (opened_at);
