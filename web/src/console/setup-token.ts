import { FragmentToken } from "$lib/fragment-token.svelte";

/** The token of the set-up link that was opened, if any. */
export const setupToken = new FragmentToken("setup");
