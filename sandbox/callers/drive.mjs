// Those who call course-gc, each in its own way; what they got is printed as JSON.
//
//   node drive.mjs trpc URL TOKEN COURSE        tRPC's own client, batched and not
//   node drive.mjs web URL TOKEN COURSE         the call that a web route makes by hand
//   node drive.mjs nextjs URL TOKEN COURSE DATABASE [refuse]
//                                               the module of integrations/nextjs, compiled into the folder MODULES

import { execFileSync } from "node:child_process";
import { pathToFileURL } from "node:url";

import { TRPCClientError, createTRPCClient, httpBatchLink, httpLink } from "@trpc/client";

const [who, url, token, courseId, ...more] = process.argv.slice(2);

/** What a call gave, or how it failed. */
async function attempt(call) {
  try {
    return { data: await call() };
  } catch (error) {
    if (!(error instanceof TRPCClientError)) throw error;
    return { message: error.message, data: error.data, httpStatus: error.meta?.response?.status };
  }
}

async function trpc() {
  const headers = () => ({ authorization: `Bearer ${token}` });
  const one = createTRPCClient({ links: [httpLink({ url: `${url}/trpc`, headers })] });
  const many = createTRPCClient({ links: [httpBatchLink({ url: `${url}/trpc`, headers })] });
  const cleanup = await attempt(() => one.generation.cleanupCourse.mutate({ courseId }));
  const requestId = cleanup.data?.request?.id;
  // What is asked in the same tick is one batch: two that succeed, and three that fail.
  const [status, runs, odd, unknown, queried] = await Promise.all([
    attempt(() => many.generation.cleanupStatus.query({ requestId })),
    attempt(() => many.generation.runs.query()),
    attempt(() => many.generation.cleanupStatus.query({ requestId: "../../v1/pause" })),
    attempt(() => many.generation.noSuchProcedure.query()),
    attempt(() => many.generation.cleanupCourse.query({ courseId })),
  ]);
  const missing = await attempt(() => one.generation.cleanupCourse.mutate({}));
  return { cleanup, status, runs, odd, unknown, queried, missing };
}

async function web() {
  const response = await fetch(`${url}/trpc/generation.cleanupCourse`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
    body: JSON.stringify({ courseId }),
  });
  const body = await response.json();
  if (!response.ok) {
    return { status: response.status, message: body.error.message };
  }
  const { success, qdrant, files, errors } = body.result.data;
  return { status: response.status, success, vectors: qdrant.vectorsDeleted, files: files.filesDeleted, errors };
}

async function nextjs() {
  const [database, refuse] = more;
  const { deleteCourse } = await import(pathToFileURL(`${process.env.MODULES}/delete-course.js`).href);
  const sql = (statement) => execFileSync("psql", [database, "-qtAX", "-v", "ON_ERROR_STOP=1", "-c", statement]).toString().trim();
  const log = [];
  const platform = {
    authorise: async () => ({ userId: "somebody" }),
    organizationOf: async (id) => sql(`SELECT organization_id FROM public.courses WHERE id = '${id}'`) || null,
    deleteRow: async (id) => {
      if (refuse) throw new Error("the row is not deleted");
      sql(`DELETE FROM public.courses WHERE id = '${id}'`);
    },
    log: (entry) => log.push(entry),
  };
  const handler = deleteCourse(platform, { url, token });
  const request = new Request(`http://web/api/courses/${courseId}`, { method: "DELETE" });
  try {
    const response = await handler(request, { params: Promise.resolve({ courseId }) });
    return { status: response.status, body: await response.json(), log };
  } catch (error) {
    return { thrown: error.message, log };
  }
}

console.log(JSON.stringify(await { trpc, web, nextjs }[who]()));
