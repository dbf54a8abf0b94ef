// Drives the real BullMQ for the tests: fills queues, removes jobs as BullMQ does, works off what is left.
//
//     node drive.mjs MAJOR URL PREFIX
//
// Reads one JSON value from its standard input, a list of steps, and writes one, the list of their answers. A step is an
// object whose field `do` names one of the functions below.
import { createInterface } from 'node:readline';

const [major, url, prefix] = process.argv.slice(2);
const { Queue, Worker, FlowProducer } = await import(`bullmq${major}`);
const { hostname, port, pathname, username, password } = new URL(url);
const connection = {
  host: hostname, port: Number(port), db: Number(pathname.slice(1) || 0), maxRetriesPerRequest: null,
  ...(password && { username: decodeURIComponent(username) || undefined, password: decodeURIComponent(password) }),
};
const options = { connection, prefix };

const open = [];
const queues = new Map();
function queue(name) {
  if (!queues.has(name)) {
    const made = new Queue(name, options);
    queues.set(name, made);
    open.push(made);
  }
  return queues.get(name);
}

// A worker that never runs by itself: the test takes jobs and finishes them.
const hands = new Map();
function hand(name) {
  if (!hands.has(name)) {
    const worker = new Worker(name, null, { ...options, autorun: false });
    hands.set(name, worker);
    open.push(worker);
  }
  return hands.get(name);
}

async function until(condition) {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline; ) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('it did not come to that within 20 s');
}

const steps = {
  async add({ queue: name, name: job = 'work', data, options: jobOptions, logs = [] }) {
    const added = await queue(name).add(job, data, jobOptions);
    for (const line of logs) await added.log(line);
    return added.id;
  },
  // Many jobs: `count` of them, with the data of all and a number each.
  async fill({ queue: name, count, data, id, options: jobOptions = {} }) {
    const jobs = Array.from({ length: count }, (_, n) => ({
      name: 'work', data: { ...data, n }, opts: id ? { ...jobOptions, jobId: `${id}-${n}` } : jobOptions,
    }));
    for (let from = 0; from < count; from += 1000) await queue(name).addBulk(jobs.slice(from, from + 1000));
    return count;
  },
  async flow({ flow }) {
    const producer = new FlowProducer(options);
    open.push(producer);
    const key = ({ job, children = [] }) => ({ id: job.id, queue: job.queueName, children: children.map(key) });
    // A producer does not write the version of BullMQ into a queue's `meta`; whoever works on the queue does.
    const names = ({ queueName, children = [] }) => [queueName, ...children.flatMap(names)];
    for (const name of names(flow)) await queue(name).waitUntilReady();
    return key(await producer.add(flow));
  },
  async schedule({ queue: name, id, every, data }) {
    const job = await queue(name).upsertJobScheduler(id, { every }, { name: 'scheduled', data });
    return job.id;
  },
  async pause({ queue: name }) {
    await queue(name).pause();
  },
  // Takes the next job and ends it so: `completed`, `failed`, or not at all (`active`), which leaves it locked.
  async take({ queue: name, end }) {
    const worker = hand(name);
    const job = await worker.getNextJob('token', { block: false });
    if (!job) return null;
    if (end === 'completed') await job.moveToCompleted('done', 'token', false);
    if (end === 'failed') await job.moveToFailed(new Error('so it was told'), 'token', false);
    return job.id;
  },
  async remove({ queue: name, id, children = false }) {
    const job = await queue(name).getJob(id);
    if (!job) return 'gone';
    try {
      await job.remove({ removeChildren: children });
      return 'removed';
    } catch (error) {
      return String(error.message);
    }
  },
  // Removes the jobs that `fill` gave these ids, one after the other, and says how many seconds the removals took.
  async removeAll({ queue: name, count, id }) {
    const jobs = [];
    for (let n = 0; n < count; n += 1) jobs.push(await queue(name).getJob(`${id}-${n}`));
    const began = performance.now();
    for (const job of jobs) await job.remove();
    return (performance.now() - began) / 1000;
  },
  async unschedule({ queue: name, id }) {
    return queue(name).removeJobScheduler(id);
  },
  async state({ queue: name, id }) {
    const job = await queue(name).getJob(id);
    return job ? job.getState() : 'gone';
  },
  // Works off all that can be worked off, and says which jobs those were.
  async work({ queues: names, count }) {
    const done = [];
    const workers = names.map((name) => new Worker(name, async (job) => { done.push(`${name}:${job.id}`); }, options));
    open.push(...workers);
    await until(() => done.length >= count);
    const left = async () => {
      let waiting = 0;
      for (const name of names) {
        const counts = await queue(name).getJobCounts('wait', 'prioritized', 'active');
        waiting += counts.wait + counts.prioritized + counts.active;
      }
      return waiting;
    };
    await until(async () => (await left()) === 0);
    return done.sort();
  },
  async counts({ queue: name }) {
    return queue(name).getJobCounts();
  },
};

let text = '';
for await (const line of createInterface({ input: process.stdin })) text += line;
const answers = [];
for (const step of JSON.parse(text)) answers.push((await steps[step.do](step)) ?? null);
for (const it of open.reverse()) await it.close();
process.stdout.write(JSON.stringify(answers));
process.exit(0);
