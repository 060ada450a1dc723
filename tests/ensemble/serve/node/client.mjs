// Asks an endpoint everything that a program in Node would, and prints what it got as one JSON object.
// node client.mjs BASE_URL
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0, timeout: 60_000 });
const messages = [{ role: "user", content: "hi" }];
const tools = [
  { type: "function", function: { name: "run", parameters: { type: "object", properties: { code: { type: "string" } } } } },
];

async function refusal(ask) {
  try {
    await ask();
  } catch (error) {
    return { kind: error.constructor.name, status: error.status ?? null, code: error.code ?? null };
  }
  return null;
}

async function streamed(ask) {
  const texts = {}, policies = {}, ends = {};
  let usage = null;
  for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
    usage = chunk.usage ?? usage;
    for (const choice of chunk.choices) {
      texts[choice.index] = (texts[choice.index] ?? "") + (choice.delta.content ?? "");
      policies[choice.index] = choice.policy.name;
      if (choice.finish_reason) ends[choice.index] = choice.finish_reason;
    }
  }
  return { texts, policies, ends, usage };
}

async function cancelled() {
  const stream = await client.chat.completions.create({ model: "endless", messages, stream: true });
  let pieces = 0;
  for await (const _ of stream) {
    pieces += 1;
    if (pieces === 2) stream.controller.abort();
  }
  return pieces;
}

async function givenUp() {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 300);
  return refusal(() =>
    client.chat.completions.create({ model: "silent", messages }, { signal: controller.signal }),
  );
}

const { data: whole, response } = await client.chat.completions
  .create({ model: "both", messages, n: 4, seed: 5 })
  .withResponse();
const logprobs = await client.chat.completions.create({ model: "low", messages, logprobs: true });
const completion = await client.completions.create({ model: "low", prompt: ["a", "b"], n: 2 });
const called = await client.chat.completions.create({ model: "low", messages, tools });
const finalCall = await client.chat.completions.stream({ model: "low", messages, tools }).finalChatCompletion();
const models = [];
for await (const model of client.models.list()) models.push(model.id);

console.log(
  JSON.stringify({
    models,
    whole: whole.choices.map(({ index, message, policy }) => [index, message.content, policy.name]),
    split: response.headers.get("x-alphamix-policies"),
    usage: whole.usage.total_tokens,
    streamed: await streamed({ model: "both", messages, n: 4, stream_options: { include_usage: true } }),
    logprob: logprobs.choices[0].logprobs.content[0].logprob,
    completion: completion.choices.map(({ index, text }) => [index, text]),
    called: called.choices[0].message.tool_calls,
    calledInPieces: finalCall.choices[0].message.tool_calls,
    unknown: await refusal(() => client.chat.completions.create({ model: "hihg", messages })),
    wrong: await refusal(() => client.chat.completions.create({ model: "low", messages, n: "two" })),
    failed: await refusal(() => client.chat.completions.create({ model: "failing", messages })),
    brokenOff: await refusal(() => streamed({ model: "breaking", messages })),
    limited: await refusal(() => client.chat.completions.create({ model: "limited", messages })),
    cancelled: await cancelled(),
    givenUp: await givenUp(),
  }),
);
