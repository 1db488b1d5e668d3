# frozen_string_literal: true

require "socket"

# Its step reports its host as a file in the directory that the input names, and ends when another file permits it.
class Stationed < TaskerCore::Workflow
  input required: { directory: :string }

  step :only, retry: { backoff: :none }

  def only(context)
    host = Socket.gethostname
    File.write("#{context.input['directory']}/started-#{host}", "")
    sleep 0.01 until File.exist?("#{context.input['directory']}/finish-#{host}")
    { host: host }
  end
end
