"""The words of the window in other languages: one table each, English on the left.

The browser's language picks the table, and a script puts the words on the page (js/language.js).
`{}` stands for what changes: numbers, names. A sentence without an entry stays English. Leaves out
everything a person or the model wrote, which is never touched.
"""

from __future__ import annotations

import json

from rlhf_chat.ui.components import script

# As words.when writes them.
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

CHINESE = {
    # the frame
    "Chat": "对话",
    "Compare": "比较",
    "Learning": "学习",
    "VersionRegistry": "版本",
    "Data": "数据",
    "New chat": "新对话",
    "Theme": "主题",
    "Colours: as the system has them": "配色：跟随系统",
    "Colours: light": "配色：浅色",
    "Colours: dark": "配色：深色",
    "Search chats": "搜索对话",
    "Today": "今天",
    "Yesterday": "昨天",
    "Previous 7 days": "过去 7 天",
    "Previous 30 days": "过去 30 天",
    "Earlier": "更早",
    "No chat has these words.": "没有对话包含这些词。",
    "Your chats will be listed here.": "你的对话会列在这里。",
    "Rename conversation": "重命名对话",
    "Delete conversation…": "删除对话…",
    "Delete conversation": "删除对话",
    "Keep conversation": "保留对话",
    "Conversation name": "对话名称",
    "Delete this and its ratings?": "删除它和它的评分？",
    "New conversation": "新对话",
    "Conversation deleted.": "对话已删除。",
    "Status": "状态",
    "{} live": "{} 在线",
    "{} of {} ratings": "{}/{} 条评分",
    "{} new ratings": "{} 条新评分",
    "{} (simulated)": "{}（模拟）",
    "{} is in charge": "由 {} 掌管",
    **{f"{{}} {name}, {{}}": f"{month} 月 {{}} 日 {{}}" for month, name in enumerate(MONTHS, 1)},
    "Ready": "就绪",
    "Learning is off": "学习已关闭",
    "Learning paused": "学习已暂停",
    "Learning has a problem": "学习出了问题",
    "Learning: {}, {} %": "学习中：{}，{} %",
    "base": "原始模型",
    "the base": "原始模型",
    "base live": "原始模型在线",
    # chat
    "What shall we talk about?": "聊点什么？",
    "Rate what you read: the model learns your taste while you go on chatting.": (
        "给读到的内容打分：你继续聊天，模型就会学习你的喜好。"
    ),
    "Write a message": "写一条消息",
    "Message": "消息",
    "Send": "发送",
    "Stop": "停止",
    "Settings": "设置",
    "Show earlier messages": "显示更早的消息",
    "Why?": "为什么？",
    "why": "为什么",
    "corrected by you": "由你改写",
    "Stars taken back.": "星级已撤回。",
    "Saved: {} of 5 stars.": "已保存：{} 星（满分 5 星）。",
    "Both good": "都好",
    "Slightly": "稍好",
    "Much": "好得多",
    "Compare: A, B, tie, both bad, both good": "比较：A、B、平局、都差、都好",
    "Compare, after a vote: slightly, or much (B for big)": "比较，投票后：稍好，或好得多",
    "Why, and what changed": "原因与变化",
    "Helpful": "有帮助",
    "Right tone": "语气合适",
    "Right length": "长度合适",
    "Well said": "说得好",
    "Wrong": "不对",
    "Off topic": "跑题",
    "Too long": "太长",
    "Too short": "太短",
    "Bad tone": "语气不好",
    "Comment": "评论",
    "Why": "原因",
    "Say why (optional, Enter saves)": "说说原因（可选，按回车保存）",
    "Saved with your words.": "已保存，连同你的话。",
    "Answer first, then say why.": "请先回答，再说明原因。",
    "Tell the model more (optional, Enter saves)": "再说一点（可选，按回车保存）",
    "Saved with your reason.": "已连同理由保存。",
    "Reason taken back.": "理由已撤回。",
    "Stars, and what you said": "星级，以及你说过的话",
    "Your wording": "你的措辞",
    "Save (Ctrl+Enter)": "保存（Ctrl+Enter）",
    "Cancel (Esc)": "取消（Esc）",
    "Saved.": "已保存。",
    "Not saved.": "未保存。",
    "Rating taken back.": "评分已撤回。",
    "Taken back.": "已撤回。",
    "Saved: your wording is preferred to the reply's.": "已保存：你的写法优于原回复。",
    "{} of {} new ratings; a round starts at {}.": "{}/{} 条新评分；满 {} 条开始一轮。",
    "{} new ratings, enough for the next round.": "{} 条新评分，足够开始下一轮。",
    "{} new rating, enough for the next round.": "{} 条新评分，足够开始下一轮。",
    "A reply is still being written here. Wait for it, or press Stop.": (
        "这里还有一条回复正在写。请等它写完，或点“停止”。"
    ),
    "There is no reply to make again yet.": "还没有可以重写的回复。",
    "Nothing was changed, so there is nothing to learn.": "没有改动，所以没有可学的。",
    "Only a reply of the model can be corrected.": "只能改写模型的回复。",
    "Only a reply of the model can be explained.": "只能解释模型的回复。",
    "The app is still reading what the base says; try again in a moment.": (
        "还在读取原始模型的回答；请稍后再试。"
    ),
    "The first {} messages are no longer read: the conversation is longer than the model can "
    "hold.": "最前面的 {} 条消息不再读取：对话超过了模型能容纳的长度。",
    "The first message is no longer read: the conversation is longer than the model can hold.": (
        "第一条消息不再读取：对话超过了模型能容纳的长度。"
    ),
    "The model broke off; what it said until then is kept.": "模型中断了；已写的内容已保留。",
    "This message is too long for the model: {} tokens of {}.": (
        "这条消息对模型来说太长：{} 个词元，上限 {}。"
    ),
    "This prompt is too long: {} tokens of {}.": "提示太长：{} 个词元，上限 {}。",
    "This is too long: {} characters; {} are allowed.": "太长了：{} 个字符；最多 {} 个。",
    "A comment can have {} characters.": "评论最多 {} 个字符。",
    "A system prompt can have {} characters.": "系统提示词最多 {} 个字符。",
    "A reply can have 1 to {} tokens.": "回复可以有 1 到 {} 个词元。",
    "Temperature is 0 to 2, top-p above 0 and up to 1, top-k 0 or more.": (
        "温度为 0 到 2，top-p 大于 0 且不超过 1，top-k 为 0 或更大。"
    ),
    "There is not enough memory for this reply: shorten the conversation.": (
        "内存不够写这条回复：请缩短对话。"
    ),
    "That message is not here any more.": "那条消息已不在了。",
    "That conversation is not here any more.": "那个对话已不在了。",
    "That did not work: {}. The log has the details.": "没有成功：{}。日志里有详情。",
    "What each word does to the score, as your ratings are understood now; together {} log-odds": (
        "按目前对你评分的理解，每个词对得分的影响；合计 {} 对数几率"
    ),
    "What each word does to the score": "每个词对得分的影响",
    "{} plus or minus {}": "{} ± {}",
    "Stopped. What was written so far is kept.": "已停止。写到这里的内容已保留。",
    "Stopped before anything was written, so no reply is kept.": (
        "还没写出内容就停止了，因此没有保留回复。"
    ),
    "The reply reached its length limit.": "回复已达到长度上限。",
    "Write something first: the message is empty.": "请先写点什么：消息是空的。",
    "This correction is too long for the model: {} tokens of {}.": (
        "这条改写对模型来说太长：{} 个词元，最多 {} 个。"
    ),
    "The conversation is deleted, but {} may still hold its words and cannot be removed ({}); "
    "remove it yourself.": "对话已删除，但 {} 可能仍含有其中的文字，且无法移除（{}）；请自行删除。",
    "Rate this reply when it is complete.": "回复写完后再评分。",
    "Thinking": "思考中",
    "{} · stopped": "{} · 已停止",
    "{} · stopped · {} tokens/s": "{} · 已停止 · 每秒 {} 词元",
    "The reply broke off. Press Retry to try again.": "回复中断了。点“重试”再试一次。",
    "Only your own messages can be edited here.": "这里只能修改你自己的消息。",
    "why: what each word of this reply does to its score": (
        "为什么：这条回复的每个词对它得分的影响"
    ),
    "{} stars": "{} 星",
    "1 star": "1 星",
    "{} · {} tokens/s": "{} · 每秒 {} 词元",
    "Previous version of this message": "这条消息的上一个版本",
    "Next version of this message": "这条消息的下一个版本",
    # settings of a chat
    "This chat": "本对话",
    "New chats": "新对话",
    "Close": "关闭",
    "System prompt": "系统提示词",
    "What the model reads before the first message": "模型在第一条消息之前读到的内容",
    "Temperature": "温度",
    "Top-k (0 is off)": "Top-k（0 为关闭）",
    "Longest reply, tokens": "最长回复（词元）",
    "Answered by": "由谁回答",
    "Whoever is live": "在线的版本",
    "Best of several drafts (all chats)": "多份草稿中选最好（所有对话）",
    "Off": "关",
    "Replies are shown as they are written.": "回复边写边显示。",
    "The best of {} drafts is shown, by what your ratings say, once it is whole.": (
        "按你的评分，从 {} 份草稿中显示最好的一份，写完才显示。"
    ),
    "Use for new chats": "用于新对话",
    "Saved for this chat.": "已保存到本对话。",
    "Saved for {}.": "已保存：{}。",
    "Saved for new chats.": "已保存到新对话。",
    "Saved for this chat, within its limits: {} is {}.": "已在允许范围内保存到本对话：{}为 {}。",
    "Saved for new chats, within its limits: {} is {}.": "已在允许范围内保存到新对话：{}为 {}。",
    "New chats begin like this from now on, within its limits: {} is {}.": (
        "以后的新对话都这样开始，在允许范围内：{}为 {}。"
    ),
    "Not saved: write a number.": "未保存：请填写一个数字。",
    "New chats begin like this from now on.": "以后的新对话都这样开始。",
    # welcome
    "A model of your own": "你自己的模型",
    "It learns what you like": "它会学习你的喜好",
    "Your first vote": "你的第一票",
    "It runs on this machine. What you write and what you rate stays in one file, feedback.db, "
    "and nothing is sent anywhere.": (
        "它运行在这台电脑上。你写的和评的都存在一个文件 feedback.db 里，不会发送到任何地方。"
    ),
    "Give replies a thumb, or choose between two drafts. After {} ratings a round begins by "
    "itself: the model practises, and a new version answers only if a check says it got better. "
    "You can always go back.": (
        "给回复点赞或点踩，或在两份草稿里选一份。满 {} 条评分后会自动开始一轮：模型进行练习，"
        "只有检查认为变好了，新版本才会上线。你随时可以退回。"
    ),
    "Two drafts of the same question, side by side. Press 1 if you like A more, 2 for B. Who "
    "wrote them is shown afterwards.": (
        "同一个问题的两份草稿并排显示。更喜欢 A 按 1，更喜欢 B 按 2。投票后才显示是谁写的。"
    ),
    "Next": "下一步",
    "Back": "上一步",
    "Skip": "跳过",
    "Show me two drafts": "给我看两份草稿",
    "Welcome": "欢迎",
    "Step {} of {}": "第 {} 步，共 {} 步",
    # compare
    "Suggested": "建议的问题",
    "From my chats": "来自我的对话",
    "My own": "自己写",
    "Duel": "对决",
    "Prompt": "提示",
    "A prompt for all drafts": "所有草稿共用的提示",
    "New drafts": "新草稿",
    "Next drafts": "下一对草稿",
    "Draft A": "草稿 A",
    "Draft B": "草稿 B",
    "Two drafts will appear here. Say which one you prefer; who wrote them is shown after your "
    "vote.": "两份草稿会出现在这里。说出你更喜欢哪一份；投票后才显示作者。",
    "Draft C": "草稿 C",
    "Draft D": "草稿 D",
    "2 drafts": "2 份草稿",
    "Drafts": "草稿数",
    "Writing drafts…": "正在写草稿…",
    "Writing {} drafts to choose {} from": "正在写 {} 份草稿，从中选 {} 份",
    "Press the drafts in order, the best first.": "按顺序点草稿，最好的先点。",
    "Press New drafts.": "请点“新草稿”。",
    "The rest are equal": "其余一样好",
    "the next best": "下一个最好的",
    "the rest are equal": "其余一样好",
    "A": "A",
    "B": "B",
    "C": "C",
    "D": "D",
    "Which draft is better?": "哪一份更好？",
    "A is better": "A 更好",
    "B is better": "B 更好",
    "Tie": "一样好",
    "Both bad": "都不好",
    "Undo": "撤销",
    "vote": "投票",
    "next drafts": "下一对",
    "undo": "撤销",
    "Saved: {}. A was {}, B was {}.": "已保存：{}。A 是 {}，B 是 {}。",
    "Saved: {}. A was {}, B was {}, C was {}.": "已保存：{}。A 是 {}，B 是 {}，C 是 {}。",
    "Saved: {}. A was {}, B was {}, C was {}, D was {}.": (
        "已保存：{}。A 是 {}，B 是 {}，C 是 {}，D 是 {}。"
    ),
    "Saved: {}. Both are from {}.": "已保存：{}。两份都来自 {}。",
    "Saved: {}. All are from {}.": "已保存：{}。全部来自 {}。",
    "A is slightly better": "A 稍好",
    "A is much better": "A 好得多",
    "B is slightly better": "B 稍好",
    "B is much better": "B 好得多",
    "Saved: {}. A was {}, B was {}. You had seen this pair before: as you did the first time.": (
        "已保存：{}。A 是 {}，B 是 {}。这一对你见过：与上次的选择相同。"
    ),
    "Saved: {}. A was {}, B was {}. You had seen this pair before: the first time you said "
    "otherwise.": "已保存：{}。A 是 {}，B 是 {}。这一对你见过：上次你的选择不同。",
    "These drafts cannot be compared. Make new ones.": "这些草稿不能比较。请生成新的。",
    "Saved: {}. Both are from {}. You had seen this pair before: as you did the first time.": (
        "已保存：{}。两份都来自 {}。这一对你见过：与上次的选择相同。"
    ),
    "Saved: {}. Both are from {}. You had seen this pair before: the first time you said "
    "otherwise.": "已保存：{}。两份都来自 {}。这一对你见过：上次你的选择不同。",
    "Taken back. Which draft is better?": "已撤回。哪一份更好？",
    "Taken back. Press the drafts in order, the best first.": (
        "已撤回。按顺序点草稿，最好的先点。"
    ),
    "Wait until all drafts have ended.": "等所有草稿都写完。",
    "Wait until both drafts have ended.": "等两份草稿都写完。",
    "Stopped: these drafts are not kept.": "已停止：这些草稿不保留。",
    "All drafts came out the same; try another prompt.": "草稿全都一样；换一个提示试试。",
    "{} more votes start round {} ({} of {}).": "再投 {} 票开始第 {} 轮（{}/{}）。",
    "Your next vote starts round {}.": "下一票就开始第 {} 轮。",
    "{} new ratings, enough: round {} begins.": "{} 条新评分，足够了：第 {} 轮开始。",
    "{} new ratings. Learning is paused, they are kept.": "{} 条新评分。学习已暂停，评分会保留。",
    "{} new ratings. Learning is off, they are kept.": "{} 条新评分。学习已关闭，评分会保留。",
    "Round {} is learning from your votes; go on, they count for the next.": (
        "第 {} 轮正在学习你的投票；请继续，新票计入下一轮。"
    ),
    "There is only the base yet, so there is nothing to compare it with.": (
        "目前只有原始模型，没有可与它比较的版本。"
    ),
    "{} won {} of {} against {}: {}, between {} and {}.": (
        "{} 赢得 {} 票（共 {} 票，对 {}）：{}，在 {} 到 {} 之间。"
    ),
    "{} won {} of {} against {} ({} ties): {}, between {} and {}.": (
        "{} 赢得 {} 票（共 {} 票，对 {}，平 {}）：{}，在 {} 到 {} 之间。"
    ),
    "Prompts": "提示来源",
    "One version": "一个版本",
    "Other version": "另一个版本",
    "Vote for a draft first.": "请先投票选一份草稿。",
    "Write a prompt, then press New drafts.": "写一个提示，然后点“新草稿”。",
    "You have not asked anything in Chat yet: suggested ones.": (
        "你还没有在对话里提问：这些是建议。"
    ),
    "to": "到",
    "slightly": "稍好",
    "much": "好得多",
    "No blind votes between {} and {} yet.": "{} 与 {} 之间还没有盲投。",
    # learning
    "Train now": "现在训练",
    "Pause": "暂停",
    "Resume": "继续",
    "Ratings per round": "每轮评分数",
    "Waiting for ratings": "等待评分",
    "Waiting for a rating or for Train now: the app ended twice in the same round": (
        "等待新的评分或点击“现在训练”：应用两次在同一轮中退出"
    ),
    "Reading your ratings with the base model": "用原始模型读取你的评分",
    "Learning what you like": "学习你的喜好",
    "Practising: writing replies": "练习：写回复",
    "Practising: learning from their scores": "练习：从得分中学习",
    "Checking the candidate at the gate": "在关口检查候选版本",
    "Publishing the new version": "发布新版本",
    "Paused": "已暂停",
    "Ratings until the next round": "距下一轮的评分",
    "{} of {} new ratings; a round starts at {}": "{}/{} 条新评分；满 {} 条开始一轮",
    "{} new ratings, enough for the next round": "{} 条新评分，足够开始下一轮",
    "{} new rating, enough for the next round": "{} 条新评分，足够开始下一轮",
    "enough for the next round": "足够开始下一轮",
    "ppo": "PPO",
    "Learning is off: the app was started with --no-train.": (
        "学习已关闭：启动时用了 --no-train。"
    ),
    "A round is running already.": "已有一轮在进行。",
    "There is nothing to learn from yet: rate a few replies first.": (
        "还没有可学的：请先给几条回复评分。"
    ),
    "The database is read-only, so nothing can be learned.": "数据库是只读的，无法学习。",
    "The database is read-only, so nobody can rate.": "数据库是只读的，无法评分。",
    "The running round does not end yet; try again in a moment.": (
        "正在进行的一轮还没有结束；请稍后再试。"
    ),
    "The round is being stopped. {} stays live; the ratings are kept.": (
        "正在停止这一轮。{} 继续在线；评分会保留。"
    ),
    "Choose a number of ratings from 1 to {}.": "请选择 1 到 {} 之间的评分数。",
    "A round starts by itself after {} new ratings.": "满 {} 条新评分后自动开始一轮。",
    "A round starts by itself after {} new rating.": "满 {} 条新评分后自动开始一轮。",
    "Nothing that counts would be left out: there is nothing to rebuild.": (
        "去掉的内容都不计入，所以无需重新学习。"
    ),
    "Nothing would be left to learn from; make the base live instead.": (
        "没有剩下可学的内容；请改让原始模型上线。"
    ),
    "A round is learning from {}; wait for it or stop it.": (
        "一轮正在从 {} 学习；请等待或停止它。"
    ),
    "{} (giving way to your chat)": "{}（让位给你的对话）",
    "Practising: writing replies (giving way to your chat)": "练习：写回复（让位给你的对话）",
    "Practising: learning from their scores (giving way to your chat)": (
        "练习：从得分中学习（让位给你的对话）"
    ),
    "Stopped; {} stays live.": "已停止；{} 继续在线。",
    "The round ran out of memory; {} stays live and chat goes on.": (
        "这一轮内存不足；{} 继续在线，聊天照常。"
    ),
    "The round was thrown away because {}; {} stays live and chat goes on.": (
        "这一轮已作废，因为{}；{} 继续在线，聊天照常。"
    ),
    "the PPO loss is not a finite number": "PPO 损失不是有限的数",
    "the PPO gradient is not a finite number": "PPO 梯度不是有限的数",
    "the loss on your own words is not a finite number": "你自己的话的损失不是有限的数",
    "an adapter weight received no gradient": "有一个适配器权重没有得到梯度",
    "The round could not finish: {}; {} stays live and chat goes on.": (
        "这一轮没能完成：{}；{} 继续在线，聊天照常。"
    ),
    "The round could not finish: The disk of {} is full, so nothing was saved; free some space; "
    "{} stays live and chat goes on.": (
        "这一轮没能完成：{} 所在的磁盘已满，没有保存；请腾出空间；{} 继续在线，聊天照常。"
    ),
    "The round could not finish: Another program is holding {}; close it and try again; {} stays "
    "live and chat goes on.": (
        "这一轮没能完成：另一个程序正占用 {}；请关闭它再试；{} 继续在线，聊天照常。"
    ),
    "The round failed ({}); {} stays live and chat goes on.": (
        "这一轮失败了（{}）；{} 继续在线，聊天照常。"
    ),
    "The app ended during this round.": "应用在这一轮中途结束了。",
    "Learning hit an unexpected error; chat goes on.": "学习遇到意外错误；聊天照常。",
    "{} comes back when the simulated person leaves.": "模拟人物离开后 {} 会恢复。",
    "You made another version live meanwhile, so it waits on the Versions screen.": (
        "这期间你让另一个版本上线了，所以它在“版本”里等候。"
    ),
    "Your blind votes speak against {}: it won {} and lost {} against the base. Rolling back to "
    "{} is proposed.": "盲投结果对 {} 不利：对原始模型胜 {} 负 {}。建议回退到 {}。",
    "Win rate against base, by judges fitted on halves of your ratings": (
        "对原始模型的胜率（由用你一半评分训练的评判者判断）"
    ),
    "Spread of the scores": "得分的离散程度",
    "Reward": "奖励",
    "KL coefficient": "KL 系数",
    "KL target, nats": "KL 目标（nat）",
    "KL to base on probe prompts, nats": "测试提示上与原始模型的 KL（nat）",
    "Replies without an end": "没有结尾的回复",
    "Explained variance": "解释方差",
    "KL of one update": "单次更新的 KL",
    "Share of clipped tokens": "被截断词元的比例",
    "Largest probability ratio": "最大概率比",
    "Loss": "损失",
    "Value loss": "价值损失",
    "Updates stopped early": "提前停止的更新",
    "Ratings used": "使用的评分",
    "Ratings used, by weight": "使用的评分（加权）",
    "Reward head: ratings it gets right": "奖励模型：判断正确的评分",
    "Reward head: p value": "奖励模型：p 值",
    "Reward head: log loss": "奖励模型：对数损失",
    "Reward head: ridge": "奖励模型：岭系数",
    "Reward head: weight of hidden features": "奖励模型：隐藏特征的权重",
    "Gain over base, log-odds": "对原始模型的提升（对数几率）",
    "Gain over base, lower bound": "对原始模型的提升（下界）",
    "No other measures yet.": "还没有其他指标。",
    "step {}": "第 {} 步",
    "round {}": "第 {} 轮",
    "vote {}": "第 {} 票",
    "The answers that moved it most, with the part of its gain owed to each:": (
        "影响最大的回答，以及各自带来的提升："
    ),
    "Its replies have": "它的回复",
    "before": "之前",
    "after": "之后",
    "was better than": "好于",
    "was slightly better than": "稍好于",
    "was much better than": "远好于",
    "and": "和",
    "were equal": "一样好",
    "were both bad": "都不好",
    "were both good": "都好",
    "thumb up for": "赞：",
    "thumb down for": "踩：",
    "{} stars for": "{} 星：",
    "was corrected to": "被改写为",
    "ranked:": "排序：",
    ", then": "，然后",
    "features": "特征",
    "reward head": "奖励模型",
    "rollouts": "练习回复",
    "gate": "关口",
    "publishing": "发布",
    "Round {}, {}": "第 {} 轮，{}",
    "about {} s left": "约剩 {} 秒",
    "about {} min left": "约剩 {} 分钟",
    "Live": "在线",
    "provisional": "试用中",
    "proved": "已证实",
    "New ratings": "新评分",
    "of {} for a round": "每轮需 {} 条",
    "so far": "至今",
    "Rounds": "轮次",
    "Round {}": "第 {} 轮",
    "Promoted": "已采用",
    "Discarded": "未采用",
    "Stopped": "已停止",
    "Failed": "失败",
    "Broken off": "中断",
    "Under way": "进行中",
    "Did it get better?": "变好了吗？",
    "The model as it came is live. The first round that passes the gate changes that.": (
        "在线的是原始模型。第一个通过关口的轮次会改变这一点。"
    ),
    "{} is live. Blind votes on Compare will say whether it beats the base.": (
        "{} 在线。“比较”里的盲投会说明它是否胜过原始模型。"
    ),
    "Not proved yet: {} won {} of {} blind vote over the base; the true share is between {} "
    "and {}.": "尚未证实：{} 对原始模型赢得 {}（共 {} 次盲投）；真实比例在 {} 到 {} 之间。",
    "Not proved yet: {} won {} of {} blind votes over the base; the true share is between {} "
    "and {}.": "尚未证实：{} 对原始模型赢得 {}（共 {} 次盲投）；真实比例在 {} 到 {} 之间。",
    "Yes: {} won {} of {} blind votes over the base, more than luck explains.": (
        "是的：{} 对原始模型赢得 {}（共 {} 次盲投），不能用运气解释。"
    ),
    "Blind win rate over the base": "对原始模型的盲投胜率",
    "What it thinks you like": "它认为你喜欢什么",
    "Nothing yet. Rate about twenty replies; a round then looks for what the ones you like have "
    "in common.": "还没有。评大约二十条回复，之后的一轮会寻找你喜欢的回复的共同点。",
    "more": "更多",
    "less": "更少",
    "not sure yet": "还不确定",
    "This round": "本轮",
    "Last round": "上一轮",
    "Over the rounds": "各轮变化",
    "More measures": "更多指标",
    "Score of practice replies": "练习回复的得分",
    "KL to base, nats": "与原始模型的 KL（nat）",
    "Reply length, tokens": "回复长度（词元）",
    "Entropy, nats per token": "熵（每词元 nat）",
    "{} of {} checks passed": "{}/{} 项检查通过",
    "No round yet. After enough ratings one starts by itself: it fits your taste, practises, and "
    "asks the gate.": "还没有轮次。评分足够后会自动开始：拟合你的喜好、练习，再经过关口。",
    "A round starts now; you can go on chatting.": "一轮现在开始；你可以继续聊天。",
    "Learning goes on.": "学习继续。",
    "Paused. Chat goes on; a round under way waits.": "已暂停。聊天照常；进行中的一轮会等待。",
    # what can be liked
    "length": "长度",
    "long sentences": "长句",
    "lists": "列表",
    "line breaks": "换行",
    "emoji": "表情",
    "exclamation marks": "感叹号",
    "questions": "提问",
    "ends by asking back": "结尾反问",
    "hedging": "含糊其辞",
    "examples": "举例",
    "formal words": "正式用语",
    "casual words": "口语",
    "warm words": "热情用语",
    "good wishes": "祝愿",
    "linking words": "连接词",
    "says it does not know": "承认不知道",
    "says I": "说“我”",
    "says you": "说“你”",
    "numbers": "数字",
    "code or markup": "代码或标记",
    "repeats itself": "重复",
    "picks up your words": "呼应你的用词",
    "opening remarks": "开场白",
    "closing remarks": "结束语",
    # watch it learn
    "Watch it learn": "看它学习",
    "Person": "人物",
    "Votes per minute": "每分钟投票数",
    "Start": "开始",
    "Stop rating": "停止评分",
    "Remove all of it": "全部移除",
    "Shorter": "更短",
    "Warmer": "更热情",
    "Lists": "列表",
    "Emoji": "表情",
    "Asks back": "反问",
    "How much it likes the replies": "它对回复的喜欢程度",
    "It prefers this one": "它更喜欢这一份",
    "your own mix": "自己调配",
    "A tie for it.": "对它来说一样好。",
    "The simulated person broke off ({}).": "模拟人物中断了（{}）。",
    "There is nobody called {}.": "没有叫 {} 的人物。",
    "A simulated person with a hidden taste votes on drafts, through the same calls as you, and "
    "trains versions of its own, beginning at the base. Your ratings stay apart, and everything it "
    "leaves is removed with one click.": (
        "一个有隐藏喜好的模拟人物给草稿投票，所用的操作与你相同，"
        "并从原始模型开始训练自己的版本。"
        "你的评分不受影响，它留下的一切都可以一键移除。"
    ),
    "{} vote so far.": "已投 {} 票。",
    "{} votes. It has stopped; its versions are still here.": "{} 票。它已停止；它的版本还在。",
    "{} vote. It has stopped; its versions are still here.": "{} 票。它已停止；它的版本还在。",
    "{} was here before the app was started again; what it left is set aside.": (
        "{} 在重新启动之前来过；它留下的内容已另放。"
    ),
    "{} begins at the base and rates. Your own ratings are not touched.": (
        "{} 从原始模型开始评分。你自己的评分不受影响。"
    ),
    "Somebody is rating already.": "已有人物在评分。",
    "There is nothing to remove.": "没有可移除的。",
    "Stopped. Its versions stay until you remove them.": "已停止。它的版本会保留到你移除为止。",
    "Gone: its votes, drafts, rounds and versions. What you had before is live again.": (
        "已移除：它的投票、草稿、轮次和版本。你之前的版本重新上线。"
    ),
    "{} votes so far.": "已投 {} 票。",
    "{} votes. It rests while the round learns from them.": "{} 票。这一轮学习时它在休息。",
    # versions
    "Each round that passes the gate adds a version. Blind votes on Compare say which is better; "
    "any of them can be made live again.": (
        "每个通过关口的轮次增加一个版本。“比较”里的盲投说明哪个更好；任何版本都可以重新上线。"
    ),
    "Roll back": "回退",
    "Make live": "上线",
    "Name and notes": "名称和备注",
    "Name": "名称",
    "Notes": "备注",
    "Save": "保存",
    "Cancel": "取消",
    "Delete…": "删除…",
    "Delete": "删除",
    "Keep": "保留",
    "The model as it came": "原始模型",
    "Provisional: likely better, on trial": "试用中：可能更好",
    "Proved: your ratings are clear": "已证实：你的评分很明确",
    "Proved by your blind votes": "已由你的盲投证实",
    "Blind votes speak against it": "盲投结果对它不利",
    "no blind votes against base yet": "还没有与原始模型的盲投",
    "{} over base ({} to {}), {} blind vote": "对原始模型 {}（{} 到 {}），{} 次盲投",
    "from {}": "来自 {}",
    "KL {} nats": "KL {} nat",
    "from {} · {}": "来自 {} · {}",
    "Win rate of {}": "{} 的胜率",
    "Make live: {}": "上线：{}",
    "Chat with {}": "与 {} 对话",
    "Duel for {}": "{} 的对决",
    "Name and notes of {}": "{} 的名称和备注",
    "Name of {}": "{} 的名称",
    "Notes on {}": "{} 的备注",
    "Keep {}": "保留 {}",
    "Delete… {}": "删除… {}",
    "Delete {} for good": "永久删除 {}",
    "Delete {}? Its votes and replies are kept.": "删除 {}？它的投票和回复会保留。",
    "Serving {} instead.": "改由 {} 回答。",
    "It won {} of {} blind votes against the base.": "它对原始模型的盲投赢得 {}（共 {} 次）。",
    "Version {} cannot be read from disk.": "无法从磁盘读取版本 {}。",
    "Version {} does not exist.": "版本 {} 不存在。",
    "Version {} exists already; versions are never overwritten.": (
        "版本 {} 已存在；版本从不被覆盖。"
    ),
    "Version {} exists; a version is never overwritten.": "版本 {} 已存在；版本从不被覆盖。",
    "Version {} holds numbers that are not finite.": "版本 {} 含有不是有限的数。",
    "Version {} is damaged": "版本 {} 已损坏",
    "{} has changed on disk.": "磁盘上的 {} 已被改动。",
    "Version {} is incomplete on disk.": "版本 {} 在磁盘上不完整。",
    "Version {} is not loaded.": "版本 {} 没有载入。",
    "Version {} is too large to be an adapter.": "版本 {} 太大，不会是适配器。",
    "Version {} was changed on disk since it was published.": (
        "版本 {} 发布之后在磁盘上被改动过。"
    ),
    "Version {} was made for another base model.": "版本 {} 是为另一个原始模型制作的。",
    "There is no version {}.": "没有版本 {}。",
    "This adapter does not belong to this model": "这个适配器不属于这个模型",
    "its tensors differ.": "它们的张量不同。",
    "This adapter does not fit this model": "这个适配器不适合这个模型",
    "{} differs in shape.": "{} 的形状不同。",
    "{} is deleted. Its votes and replies are kept.": "{} 已删除。它的投票和回复会保留。",
    "{} is live; make another version live first.": "{} 在线；请先让另一个版本上线。",
    "The base is live; there is nothing to roll back.": "在线的是原始模型；没有可回退的。",
    "{} over base ({} to {}), {} blind votes": "对原始模型 {}（{} 到 {}），{} 次盲投",
    "from {} · {} · KL {} nats": "来自 {} · {} · KL {} nat",
    "Ranking by blind votes": "盲投排名",
    "Version": "版本",
    "Won": "胜",
    "Tied": "平",
    "Lost": "负",
    "Over base": "对原始模型",
    'Won, tied and lost against any other version, blind. "Over base" is what all votes together '
    "suggest; it ranks and proves nothing.": (
        "与任何其他版本盲比的胜、平、负。“对原始模型”是所有投票合起来的估计；只用于排名，不是证明。"
    ),
    "{} answers from now on.": "从现在起由 {} 回答。",
    "The base answers from now on.": "从现在起由原始模型回答。",
    # data
    "Search answers": "搜索回答",
    "Kind": "种类",
    "Answer": "回答",
    "Saved: {}.": "已保存：{}。",
    "That answer is not here any more.": "那条回答已不在了。",
    "Deleted: the prompt, both drafts and your vote.": "已删除：提示、两份草稿和你的投票。",
    "Deleted: the prompt, all drafts and their order.": "已删除：提示、所有草稿和它们的排序。",
    "Deleted: the conversation and its ratings.": "已删除：对话和它的评分。",
    "Delete this prompt, both drafts and your vote?": "删除这个提示、两份草稿和你的投票？",
    "Delete this prompt, all drafts and their order?": "删除这个提示、所有草稿和它们的排序？",
    "Delete the whole conversation and its ratings?": "删除整个对话和它的评分？",
    "Learn once more from the base, as if these had never been said?": (
        "从原始模型重新学习，就像从未有过这些回答？"
    ),
    "Learn": "学习",
    "Change the answer": "修改回答",
    "Try other words, or show every kind of answer.": "换些词，或显示所有种类的回答。",
    "{} answer is in the download.": "下载中有 {} 条回答。",
    "{} preference pair is in the download.": "下载中有 {} 对偏好。",
    "you": "你",
    "Search prompts and replies": "搜索提示、回复和评论",
    "Everything": "全部",
    "Thumbs": "点赞点踩",
    "Votes": "投票",
    "Stars": "星级",
    "Corrections": "改写",
    "Rankings": "排序",
    "Corrected": "已改写",
    "Ranked": "已排序",
    "{} of 5 stars": "{} 星（满分 5 星）",
    "Any answer": "任何回答",
    "Export JSONL": "导出 JSONL",
    "Export CSV": "导出 CSV",
    "Export for TRL": "导出 TRL 格式",
    "Thumb up": "赞",
    "Thumb down": "踩",
    "First is better": "第一份更好",
    "Second is better": "第二份更好",
    "Take back": "撤回",
    "Show more": "显示更多",
    "Nothing here yet.": "这里还没有内容。",
    "Nothing matches.": "没有匹配的内容。",
    "Give a reply a thumb in Chat, or vote on two drafts in Compare. What you said can then be "
    "changed, taken back or taken away here.": (
        "在“对话”里给回复点赞，或在“比较”里给两份草稿投票。之后可以在这里修改、撤回或带走。"
    ),
    "Import brings what you said elsewhere: in Open WebUI, as pairs for TRL, or here on another "
    "machine.": "“导入”带来你在别处说过的：Open WebUI、TRL 的偏好对，或另一台机器上的本应用。",
    "Taken back. It does not count from the next round on.": "已撤回。从下一轮起不再计入。",
    "{} answers are in the download.": "下载中有 {} 条回答。",
    "{} preference pairs are in the download.": "下载中有 {} 对偏好。",
    # ratings from a file
    "Import": "导入",
    "A file of ratings": "评分文件",
    "Reading the file": "正在读取文件",
    "Importing": "正在导入",
    "Delete all that this file brought, words and ratings?": "删除此文件带来的全部文字和评分吗？",
    "Imported {}: {} conversation": "{} 导入：{} 个对话",
    "Imported {}: {} conversations": "{} 导入：{} 个对话",
    "Import these": "导入这些",
    "Undo the import": "撤销导入",
    "This file is too large: 16 MB can be imported at a time.": "文件太大：一次最多导入 16 MB。",
    "{} more answers are left out: import them from a file of their own.": (
        "另有 {} 条回答未包括：请用单独的文件导入。"
    ),
    "These entries cannot be used:": "这些条目不能使用：",
    "and {} more": "还有 {} 条",
    "Nothing was new: all of it was here already.": "没有新内容：全部都已在这里。",
    "Undone: what the file brought is gone, words and all.": (
        "已撤销：文件带来的内容连同文字都已删除。"
    ),
    "Imported: {} new answer.": "已导入：{} 条新回答。",
    "Imported: {} new answers.": "已导入：{} 条新回答。",
    "Here already: {} answer.": "已在这里：{} 条回答。",
    "Here already: {} answers.": "已在这里：{} 条回答。",
    "There are no ratings in this file that can be used.": "这个文件里没有可用的评分。",
    "It is too long for this model.": "对这个模型来说太长。",
    "It has signs this model does not know.": "含有这个模型不认识的符号。",
    "It does not have the shape its fields promise.": "它的结构与字段不符。",
    "It is not JSON.": "它不是 JSON。",
    "It is not a rating.": "它不是评分。",
    "It is not a rating of a kind that is known here.": "它不是这里认识的评分。",
    "It is empty.": "它是空的。",
    "An answer of kind {} that says {} is not known here.": (
        "这里不认识类型为 {}、内容为 {} 的回答。"
    ),
    "It was said by a simulated person.": "它来自模拟的人。",
    "Its two replies do not answer the same message.": "两条回复回答的不是同一条消息。",
    "It does not end with a reply of the assistant.": "它不以助手的回复结尾。",
    "Its label is neither true nor false.": "它的标签既不是真也不是假。",
    "It has no thumb.": "它没有点赞或点踩。",
    "The message that was rated is not in its snapshot.": "快照里没有被评分的消息。",
    "Somebody beside the person and the assistant speaks in it.": "其中有用户和助手之外的说话者。",
    "A message in it is empty or is not text.": "其中有一条消息为空或不是文字。",
    "There is no message that its replies answer.": "没有回复所回答的消息。",
    "Its replies are all the same.": "它的回复都一样。",
    "It does not put 2 to {} replies in order.": "它没有给 2 到 {} 条回复排序。",
    # the archive
    "The disk of {} is full, so nothing was saved; free some space.": (
        "{} 所在的磁盘已满，没有保存；请腾出空间。"
    ),
    "{} is read-only, so nothing was saved; make it writable.": (
        "{} 是只读的，没有保存；请让它可写。"
    ),
    "Another program is holding {}; close it and try again.": (
        "另一个程序正占用 {}；请关闭它再试。"
    ),
    "{} is damaged ({}); {}.": "{} 已损坏（{}）；{}。",
    "{} is damaged ({}); move it away, then copy {} to its place or start with an empty one.": (
        "{} 已损坏（{}）；把它移走，再把 {} 复制到原处，或从空的开始。"
    ),
    "{} is damaged or no database ({}); {}.": "{} 已损坏或不是数据库（{}）；{}。",
    "move it away to start with an empty one": "把它移走，就会从空的开始",
    "move it away, then copy {} to its place or start with an empty one": (
        "把它移走，再把 {} 复制到原处，或从空的开始"
    ),
    "{} could not be read or written ({}); check the disk.": "无法读写 {}（{}）；请检查磁盘。",
    "{} could not be opened ({}); check the folder.": "无法打开 {}（{}）；请检查文件夹。",
    "{} refused this entry: {}.": "{} 拒绝了这条记录：{}。",
    "{} is closed, so nothing was saved.": "{} 已关闭，没有保存。",
    "{} is closed.": "{} 已关闭。",
    "The conversation is deleted, but {}-wal is in use and still holds its words; close the app to "
    "finish.": "对话已删除，但 {}-wal 正在使用，仍含有其中的文字；请关闭应用以完成。",
    # the gate
    "Only {} ratings say which reply is better; {} are needed.": (
        "只有 {} 条评分能说明哪条回复更好；需要 {} 条。"
    ),
    "Your {} ratings do not yet show a preference that chance could not: p = {}, needed {}. "
    "Keep rating.": "你的 {} 条评分还看不出偶然之外的偏好：p = {}，需要 {}。请继续评分。",
    "Served: judges fitted on halves of your ratings prefer it to the base {} of the time at {} "
    "nats; your ratings are clear (p = {}).": (
        "已上线：用你一半评分训练的评判者有 {} 的时候更喜欢它，距离 {} nats；"
        "你的评分很明确（p = {}）。"
    ),
    "Served: judges fitted on halves of your ratings prefer it to the base {} of the time at {} "
    "nats; your ratings only hint at it (p = {}, clear would be {}), so it is on trial.": (
        "已上线：用你一半评分训练的评判者有 {} 的时候更喜欢它，距离 {} nats；"
        "你的评分只是有所提示（p = {}，达到 {} 才算明确），因此先试用。"
    ),
    "Not served": "未上线",
    "a weight is not a finite number.": "有权重不是有限的数。",
    "the ratings could be chance (p = {}).": "评分可能只是偶然（p = {}）。",
    "judges fitted on random halves of your ratings put it at {} against the base (at least {}).": (
        "用你一半评分训练的评判者给它 {}（与原始模型相比，至少 {}）。"
    ),
    "it is {} nats from the base (limit {}).": "它离原始模型 {} nats（上限 {}）。",
    "words the base would never say: {}, base {}.": "原始模型不会说的词：{}，原始模型 {}。",
    "replies that repeat themselves: {}, base {}.": "自我重复的回复：{}，原始模型 {}。",
    "replies without an end: {}, base {}.": "没有结尾的回复：{}，原始模型 {}。",
    "empty replies: {}, base {}.": "空回复：{}，原始模型 {}。",
    "its variety is {}, the base's {}.": "它的多样性是 {}，原始模型 {}。",
    "its replies are {} x as long as the base's.": "它的回复长度是原始模型的 {} 倍。",
    "finite": "有限",
    "ratings": "评分",
    "judges": "评判者",
    "kl": "KL",
    "low_logprob_rate": "意外的词",
    "degeneration": "瑕疵",
    "unfinished": "没有结尾",
    "empty": "空",
    "variety": "多样性",
    "Learn without it": "去掉它重新学习",
    "What if you had not said this: learns once more from the base, and the result goes through "
    "the gate": "假如没有这条回答：从原始模型重新学习，结果仍要通过检验",
    "Who rates": "谁在评分",
    "Rating as": "评分者",
    "{} answers": "{} 条回答",
    "{} answer": "{} 条回答",
    "Agreement (Krippendorff's alpha): {}, {}.": "一致程度（Krippendorff α）：{}，{}。",
    "they mean the same": "意见一致",
    "they mostly mean the same": "大体一致",
    "they often disagree": "常有分歧",
    "no more than by chance": "不超过偶然",
    "same answer to {} of {} repeated pairs": "{}/{} 对重复草稿回答相同",
    "agrees with the others {} of the time": "与他人一致 {}",
    "Set aside": "不计入",
    "Let count again": "重新计入",
    "Learn without these": "去掉这些重新学习",
    "{} does not count from the next round on.": "{} 从下一轮起不计入。",
    "{} counts again from the next round on.": "{} 从下一轮起重新计入。",
    "Clearly wants the opposite of all others: you may want to set these answers aside.": (
        "明显与其他所有人相反，你也许想不计入这些回答。"
    ),
    "A new version is learned from the base and the {} answers that are left.": (
        "正在从原始模型和剩下的 {} 条回答学习新版本。"
    ),
    # keys
    "Keys": "按键",
    "G then C M L V D": "先 G，再 C M L V D",
    "Keyboard shortcuts": "键盘快捷键",
    "Send; Shift+Enter starts a new line": "发送；Shift+Enter 换行",
    "In an empty message box: change your last message": "消息框为空时：修改上一条消息",
    "Stop the reply; leave a box; close what a reply opened": (
        "停止回复；离开输入框；关闭回复打开的面板"
    ),
    "Rate the last reply up or down": "给最后一条回复点赞或点踩",
    "Another reply to the same message": "对同一条消息再回复一次",
    "Previous or next version of the last reply": "最后一条回复的上一个或下一个版本",
    "Copy the last reply": "复制最后一条回复",
    "Compare: A, B, tie, both bad": "比较：A、B、一样好、都不好",
    "Compare: next drafts (Enter after a vote)": "比较：下一对草稿（投票后按回车）",
    "Compare: take the answer back": "比较：撤回回答",
    "Compare, after an answer: say why": "比较：回答之后说明原因",
    "Several drafts: the next best; T, the rest are equal": "多份草稿：下一个最好的；T 其余一样好",
    "Go to Chat, Compare, Learning, VersionRegistry, Data": "前往对话、比较、学习、版本、数据",
    "Show or hide the list of chats": "显示或隐藏对话列表",
    "Settings of this chat": "本对话的设置",
    "This sheet": "本表",
}

LANGUAGES = {"zh": CHINESE}


def head() -> str:
    """The script for `launch(head=...)`, with the tables written in."""
    tables = json.dumps(LANGUAGES, ensure_ascii=False).replace("</", "<\\/")
    return f"<script>\nconst LANGUAGES = {tables};\n{script('language')}</script>"
