// Asks an endpoint what a program on Vercel's AI SDK would, and prints what it got as one JSON object.
// node vercel.mjs BASE_URL
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const baseURL = process.argv[2];
const compatible = createOpenAICompatible({ name: "alphamix", baseURL, apiKey: "none", includeUsage: true });
const openai = createOpenAI({ baseURL, apiKey: "none" });
const models = {
  compatible: compatible.chatModel("both"),
  completion: compatible.completionModel("both"),
  chat: openai.chat("both"),
  responses: openai.responses("both"),
};
globalThis.AI_SDK_LOG_WARNINGS = false; // that text completions have no tools is known
const how = { maxRetries: 0 };

async function whole(model) {
  const { text, finishReason, usage } = await generateText({ model, prompt: "hi", ...how });
  return { text, finishReason, tokens: usage.totalTokens };
}

async function streamed(model) {
  const { textStream, finishReason, usage } = streamText({ model, prompt: "hi", ...how });
  const pieces = [];
  for await (const piece of textStream) pieces.push(piece);
  return { pieces, finishReason: await finishReason, tokens: (await usage).totalTokens };
}

async function called(model) {
  const run = tool({
    description: "Runs code.",
    inputSchema: jsonSchema({ type: "object", properties: { code: { type: "string" } } }),
    execute: async ({ code }) => `ran ${code}`,
  });
  const { steps } = await generateText({ model, prompt: "hi", tools: { run }, stopWhen: stepCountIs(2), ...how });
  return steps.map(({ toolResults, text }) => ({ results: toolResults.map(({ output }) => output), text }));
}

async function refusal(ask) {
  try {
    await ask();
  } catch (error) {
    return { isApiError: APICallError.isInstance(error), status: error.statusCode ?? null };
  }
  return null;
}

const told = {};
for (const [name, model] of Object.entries(models)) {
  told[name] = { whole: await whole(model), streamed: await streamed(model) };
  if (name !== "completion") told[name].called = await called(model);
}
told.unknown = await refusal(() => whole(compatible.chatModel("hihg")));
told.limited = await refusal(() => whole(compatible.chatModel("limited")));
console.log(JSON.stringify(told));
