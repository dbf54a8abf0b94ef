-- The running server that the ledger was in when it last moved the store's marker; null if that was not told. A copy of the ledger, or
-- one that was restored or failed over, finds itself in another one.
ALTER TABLE course_gc.adopted_stores ADD COLUMN moved_in text;
-- The marker was ahead, and was moved once more so that whoever moved it halts, too. Once, until somebody adopts.
ALTER TABLE course_gc.adopted_stores ADD COLUMN objected boolean NOT NULL DEFAULT false;
