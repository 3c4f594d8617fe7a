// Ask for credentials with many clients at once, each with a default chain of its own.
// Print how many got them.
import { fromNodeProviderChain } from "@aws-sdk/credential-providers";

const asked = Array.from({ length: Number(process.argv[2]) }, () => fromNodeProviderChain()());
const settled = await Promise.allSettled(asked);
for (const { reason } of settled.filter(({ status }) => status === "rejected").slice(0, 3)) {
  console.error(String(reason));
}
console.log(settled.filter(({ status }) => status === "fulfilled").length);
