export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** A JSON value without the exception: `undefined` stands for text that is not JSON. */
export function parseJson(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

export const isJsonObject = (value: unknown): value is { readonly [key: string]: Json } =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
