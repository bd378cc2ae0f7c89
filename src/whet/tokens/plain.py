"""The chat template of a model that has none of its own."""

from __future__ import annotations

PLAIN_TEMPLATE = """\
{{- bos_token }}
{%- if tools %}
    {{- '### Tools:\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson + '\\n' }}
    {%- endfor %}
    {{- '\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- set content = message.content | default('') %}
    {%- if content is not string %}
        {{- raise_exception('content that is not text') }}
    {%- endif %}
    {%- if message.role == 'assistant' %}
        {{- '### Assistant:\\n' }}
        {%- generation %}
        {{- content }}
        {%- for call in message.tool_calls or [] %}
            {%- set call = call.function or call %}
            {{- '\\n' if content or not loop.first }}
            {{- '<tool_call>' + {'name': call.name, 'arguments': call.arguments} | tojson + '</tool_call>' }}
        {%- endfor %}
        {{- eos_token }}
        {%- endgeneration %}
        {{- '\\n\\n' }}
    {%- elif message.role in ['system', 'developer', 'user', 'tool'] %}
        {{- '### ' + message.role | capitalize + ':\\n' + content + '\\n\\n' }}
    {%- else %}
        {{- raise_exception('no such role: ' + message.role | string) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '### Assistant:\\n' }}
{%- endif %}"""
"""A heading for each turn, in words that any base model has read, and no token that it has not:

    <s>### System:
    Be brief.

    ### User:
    Hello

    ### Assistant:
    Hi!</s>

The row begins with the tokenizer's beginning token where it has one, and an answer ends with its end token, so that a
server which knows only that token stops there. Tools are listed under `### Tools:`, one JSON object a line; a call is
`<tool_call>{"name": ..., "arguments": ...}</tool_call>` in the answer, its result a turn of `### Tool:`. What lies
between `{% generation %}` and `{% endgeneration %}` is what is learnt (transformers' own markers).
"""
