"""The chat templates that whet has itself: for a model without one, and for a tokenizer that it trains."""

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

CHATML_TEMPLATE = """\
{%- if tools %}
    {{- '<|im_start|>system\\nTools:\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson + '\\n' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}
        {{- message.content or '' }}
        {%- for call in message.tool_calls or [] %}
            {%- set call = call.function or call %}
            {{- '<tool_call>' + {'name': call.name, 'arguments': call.arguments} | tojson + '</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- else %}
        {{- message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
"""ChatML, for a tokenizer that whet trains and that has its two tokens: `<|im_start|>ROLE`, a line break, the words,
`<|im_end|>`, a line break. Tools and calls as in `PLAIN_TEMPLATE`."""
