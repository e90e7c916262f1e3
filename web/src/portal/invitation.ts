import { FragmentToken } from "$lib/fragment-token.svelte";

/** The token of the invitation whose link was opened, if any. */
export const invitation = new FragmentToken("invitation");
