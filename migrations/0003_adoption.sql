-- Who we are: made once, with the first adoption.
CREATE TABLE course_gc.installation (
    the_one    boolean PRIMARY KEY DEFAULT true CHECK (the_one),
    id         uuid NOT NULL,
    name       text NOT NULL,
    adopted_at timestamptz NOT NULL,
    adopted_by text NOT NULL
);

-- What each liveness source was when it was adopted, and where in its history it was last seen.
CREATE TABLE course_gc.pinned_sources (
    source   text PRIMARY KEY,
    pin      jsonb NOT NULL,
    position jsonb NOT NULL
);

-- The course vanished while the history of its liveness source broke: it waits until a person adopts anew.
ALTER TABLE course_gc.known_ids ADD COLUMN across_break boolean NOT NULL DEFAULT false;

-- The stores that are ours, and their markers' counts. A move is written here before (`pending`) and after.
CREATE TABLE course_gc.adopted_stores (
    store    text PRIMARY KEY,
    sources  jsonb NOT NULL,
    counter  bigint NOT NULL,
    pending  bigint
);
