//! Writing a campus into the stores, in the platform's own shapes and batches.

use std::{collections::HashMap, fs};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use qdrant_client::{
    Payload,
    qdrant::{
        CreateAliasBuilder, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, Distance, FieldType,
        IntegerIndexParamsBuilder, KeywordIndexParamsBuilder, Modifier, NamedVectors, PointStruct,
        SparseVectorParamsBuilder, SparseVectorsConfigBuilder, StrictModeConfigBuilder, UpsertPointsBuilder, Vector,
        VectorParamsBuilder, VectorsConfigBuilder,
    },
};
use redis::Pipeline;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{Campus, File, IdKind, Key, KeyValue, Point, Row, StoredPath, TABLES, Table, jobs};
use crate::{Bullmq, PointId, QUEUE_PREFIX, Stores, server::blocking};

const KEYS_AT_ONCE: usize = 1_000;
const POINTS_AT_ONCE: usize = 128;
/// How many objects are being written at a time.
const AT_ONCE: usize = 16;

impl Campus {
    /// Creates what is not there yet and writes everything.
    ///
    /// # Errors
    ///
    /// When a store cannot be written.
    pub async fn seed(&self, stores: &Stores) -> Result<()> {
        self.prepare(stores).await?;
        tokio::try_join!(self.seed_rows(stores), self.seed_resources(stores))?;
        Ok(())
    }

    /// Creates the tables, the collection with its alias and indexes, and the folders, unless they are there.
    ///
    /// # Errors
    ///
    /// When a store cannot be written.
    pub async fn prepare(&self, stores: &Stores) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(schema(self.id_type()))).execute(&stores.postgres).await?;
        for folder in ["uploads", "enrichments"] {
            fs::create_dir_all(stores.addresses.files.join(folder))?;
        }
        if !stores.qdrant.collection_exists(stores.addresses.collection()).await? {
            self.create_collection(stores).await.context("creating the collection")?;
        }
        Ok(())
    }

    /// Writes the rows of all tables; those that are there already stay.
    ///
    /// # Errors
    ///
    /// When Postgres refuses.
    pub async fn seed_rows(&self, stores: &Stores) -> Result<()> {
        let id = self.id_type();
        let mut transaction = stores.postgres.begin().await?;
        sqlx::query(
            "INSERT INTO public.organizations (id, name)
             SELECT * FROM unnest($1::uuid[], $2::text[]) ON CONFLICT DO NOTHING",
        )
        .bind(self.organizations.iter().map(|it| it.id).collect::<Vec<Uuid>>())
        .bind(self.organizations.iter().map(|it| it.name.clone()).collect::<Vec<String>>())
        .execute(&mut *transaction)
        .await?;

        let courses = format!(
            "INSERT INTO public.courses (id, organization_id, user_id, slug, title, status, created_at)
             SELECT id::{id}, organization, author, slug, 'The course ' || slug, status, now() - age * interval '1 day'
             FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::int[])
                  AS course (id, organization, author, slug, status, age)
             ON CONFLICT DO NOTHING"
        );
        sqlx::query(AssertSqlSafe(courses))
            .bind(self.courses.iter().map(|it| it.id.to_string()).collect::<Vec<String>>())
            .bind(self.courses.iter().map(|it| it.organization).collect::<Vec<Uuid>>())
            .bind(self.courses.iter().map(|it| it.user).collect::<Vec<Uuid>>())
            .bind(self.courses.iter().map(|it| it.slug.clone()).collect::<Vec<String>>())
            .bind(self.courses.iter().map(|it| it.status.to_owned()).collect::<Vec<String>>())
            .bind(self.courses.iter().map(|it| it.age_days).collect::<Vec<i32>>())
            .execute(&mut *transaction)
            .await?;

        let catalog = format!(
            "INSERT INTO public.file_catalog (id, course_id, organization_id, storage_path, original_file_id)
             SELECT id, course::{id}, organization, path, original
             FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::uuid[])
                  AS file (id, course, organization, path, original)
             ON CONFLICT DO NOTHING"
        );
        let path = |path: &StoredPath| match path {
            StoredPath::Relative(path) | StoredPath::Elsewhere(path) => path.clone(),
            StoredPath::Absolute(path) => stores.addresses.files.join(path).display().to_string(),
        };
        sqlx::query(AssertSqlSafe(catalog))
            .bind(self.catalog.iter().map(|row| row.id).collect::<Vec<Uuid>>())
            .bind(self.catalog.iter().map(|row| row.course.map(|id| id.to_string())).collect::<Vec<Option<String>>>())
            .bind(self.catalog.iter().map(|row| row.organization).collect::<Vec<Uuid>>())
            .bind(self.catalog.iter().map(|row| path(&row.path)).collect::<Vec<String>>())
            .bind(self.catalog.iter().map(|row| row.original).collect::<Vec<Option<Uuid>>>())
            .execute(&mut *transaction)
            .await?;

        for table in TABLES {
            let rows = || self.rows.iter().filter(|row| row.table == table);
            let Table { name, column } = table;
            // A list of courses is written as Postgres writes an array.
            let names = |row: &Row| {
                let names = row.names.iter().map(|id| id.map_or("NULL".to_owned(), |id| id.to_string()));
                let names: Vec<String> = names.collect();
                if table.holds_many() { format!("{{{}}}", names.join(",")) } else { names.concat() }
            };
            let of = if table.holds_many() { format!("{id}[]") } else { id.to_owned() };
            let insert = format!(
                "INSERT INTO {name} (id, {column}, context)
                 SELECT id, names::{of}, context FROM unnest($1::uuid[], $2::text[], $3::text[]) AS it (id, names, context)
                 ON CONFLICT DO NOTHING"
            );
            sqlx::query(AssertSqlSafe(insert))
                .bind(rows().map(|row| row.id).collect::<Vec<Uuid>>())
                .bind(rows().map(names).collect::<Vec<String>>())
                .bind(rows().map(|row| row.text.clone()).collect::<Vec<String>>())
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Writes keys, points and files, and of a whole campus jobs and objects.
    ///
    /// # Errors
    ///
    /// When a store cannot be written, or the world of a whole campus is not.
    pub async fn seed_resources(&self, stores: &Stores) -> Result<()> {
        tokio::try_join!(
            self.seed_keys(stores),
            self.seed_points(stores),
            self.seed_files(stores),
            self.seed_jobs(stores),
            self.seed_objects(stores)
        )?;
        Ok(())
    }

    /// Adds all jobs, each as BullMQ does.
    async fn seed_jobs(&self, stores: &Stores) -> Result<()> {
        if self.jobs.is_empty() {
            return Ok(());
        }
        let bullmq = Bullmq { major: 5, url: stores.addresses.redis.clone(), prefix: QUEUE_PREFIX.to_owned() };
        let steps = jobs::steps(&self.jobs);
        let answers = bullmq.drive(steps.clone()).await.context("adding jobs")?;
        for (step, answer) in steps.as_array().into_iter().flatten().zip(answers) {
            if let Some(expected) = step.get("expected").filter(|expected| **expected != answer) {
                bail!("job {expected} was planned, and {answer} was added or taken");
            }
        }
        Ok(())
    }

    async fn seed_objects(&self, stores: &Stores) -> Result<()> {
        if self.objects.is_empty() {
            return Ok(());
        }
        let bucket = stores.bucket.as_ref().context("a whole campus is for a whole world, which has a bucket")?;
        let put = |object: &File| bucket.put(object.path.clone(), object.content.clone());
        let puts: Vec<_> = self.objects.iter().map(put).collect();
        futures::stream::iter(puts).buffer_unordered(AT_ONCE).try_collect::<()>().await.context("writing objects")
    }

    async fn seed_keys(&self, stores: &Stores) -> Result<()> {
        let mut redis = stores.redis.clone();
        for keys in self.keys.chunks(KEYS_AT_ONCE) {
            let mut pipeline = redis::pipe();
            keys.iter().for_each(|key| write(&mut pipeline, key));
            pipeline.query_async::<()>(&mut redis).await.context("writing keys")?;
        }
        Ok(())
    }

    async fn seed_points(&self, stores: &Stores) -> Result<()> {
        let collection = stores.addresses.collection();
        for points in self.points.chunks(POINTS_AT_ONCE) {
            let points = points.iter().map(wire).collect::<Result<Vec<_>>>()?;
            let request = UpsertPointsBuilder::new(&collection, points).wait(true);
            stores.qdrant.upsert_points(request).await.context("writing points")?;
        }
        Ok(())
    }

    async fn seed_files(&self, stores: &Stores) -> Result<()> {
        let base = stores.addresses.files.clone();
        let files = self.files.clone();
        blocking(move || {
            for file in files {
                let path = base.join(&file.path);
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder)?;
                }
                fs::write(&path, &file.content).with_context(|| format!("writing {}", path.display()))?;
            }
            Ok(())
        })
        .await
    }

    async fn create_collection(&self, stores: &Stores) -> Result<()> {
        let collection = stores.addresses.collection();
        let mut dense = VectorsConfigBuilder::default();
        let size = u64::try_from(self.size.vector_size)?;
        dense.add_named_vector_params("dense", VectorParamsBuilder::new(size, Distance::Cosine));
        let mut sparse = SparseVectorsConfigBuilder::default();
        sparse
            .add_named_vector_params("sparse", SparseVectorParamsBuilder::default().modifier(i32::from(Modifier::Idf)));
        let strict = StrictModeConfigBuilder::default()
            .enabled(true)
            .unindexed_filtering_retrieve(false)
            .unindexed_filtering_update(false)
            .max_query_limit(100)
            .filter_max_conditions(16)
            .condition_max_size(256);
        let request = CreateCollectionBuilder::new(&collection)
            .vectors_config(dense)
            .sparse_vectors_config(sparse)
            .strict_mode_config(strict);
        stores.qdrant.create_collection(request).await?;

        let index =
            |name: &str, kind| CreateFieldIndexCollectionBuilder::new(collection.clone(), name, kind).wait(true);
        let course_id = match self.size.ids {
            IdKind::Uuid | IdKind::Text => index("course_id", FieldType::Keyword),
            IdKind::Integer => {
                index("course_id", FieldType::Integer).field_index_params(IntegerIndexParamsBuilder::new(true, false))
            }
        };
        let tenant = index("organization_id", FieldType::Keyword)
            .field_index_params(KeywordIndexParamsBuilder::default().is_tenant(true));
        for request in [course_id, tenant, index("document_id", FieldType::Keyword)] {
            stores.qdrant.create_field_index(request).await?;
        }
        stores.qdrant.create_alias(CreateAliasBuilder::new(&collection, &stores.addresses.alias)).await?;
        Ok(())
    }

    /// The SQL type of the courses' ids.
    pub(super) fn id_type(&self) -> &'static str {
        match self.size.ids {
            IdKind::Uuid => "uuid",
            IdKind::Integer => "bigint",
            IdKind::Text => "text",
        }
    }
}

/// The tables of the platform that matter here. Nothing ties the last two to the courses.
fn schema(id: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS public.organizations (
             id uuid PRIMARY KEY, name text NOT NULL, deleted_at timestamptz);
         CREATE TABLE IF NOT EXISTS public.courses (
             id {id} PRIMARY KEY,
             organization_id uuid NOT NULL REFERENCES public.organizations ON DELETE CASCADE,
             user_id uuid NOT NULL,
             slug text NOT NULL UNIQUE,
             title text NOT NULL,
             status text NOT NULL CHECK (status IN ('draft', 'published', 'archived')),
             created_at timestamptz NOT NULL DEFAULT now());
         CREATE INDEX IF NOT EXISTS courses_organization ON public.courses (organization_id);
         CREATE TABLE IF NOT EXISTS public.file_catalog (
             id uuid PRIMARY KEY,
             course_id {id} REFERENCES public.courses ON DELETE CASCADE,
             organization_id uuid NOT NULL,
             storage_path text NOT NULL,
             original_file_id uuid,
             reference_count int NOT NULL DEFAULT 1);
         CREATE INDEX IF NOT EXISTS file_catalog_course ON public.file_catalog (course_id);
         CREATE TABLE IF NOT EXISTS public.rag_context_cache (
             id uuid PRIMARY KEY, course_id {id} NOT NULL, context text NOT NULL);
         CREATE TABLE IF NOT EXISTS public.course_bundles (
             id uuid PRIMARY KEY, course_ids {id}[] NOT NULL, context text NOT NULL);"
    )
}

fn write(pipeline: &mut Pipeline, key: &Key) {
    match &key.value {
        KeyValue::Text(text) => pipeline.set(&key.name, text),
        KeyValue::Fields(fields) => pipeline.hset_multiple(&key.name, fields),
        KeyValue::List(items) => pipeline.rpush(&key.name, items),
        KeyValue::Scores(scores) => {
            let scores: Vec<(f64, &String)> = scores.iter().map(|(member, score)| (*score, member)).collect();
            pipeline.zadd_multiple(&key.name, &scores)
        }
    }
    .ignore();
    if let Some(ttl) = key.ttl {
        pipeline.cmd("EXPIRE").arg(&key.name).arg(ttl).ignore();
    }
}

fn wire(point: &Point) -> Result<PointStruct> {
    let (indices, values): (Vec<u32>, Vec<f32>) = point.sparse.iter().copied().unzip();
    let vectors = HashMap::from([
        ("dense".to_owned(), Vector::new_dense(point.dense.clone())),
        ("sparse".to_owned(), Vector::new_sparse(indices, values)),
    ]);
    let payload = Payload::try_from(point.payload.clone())?;
    let vectors = NamedVectors { vectors };
    Ok(match point.id {
        PointId::Number(id) => PointStruct::new(id, vectors, payload),
        PointId::Uuid(id) => PointStruct::new(id.to_string(), vectors, payload),
    })
}
